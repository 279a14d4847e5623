//! The `[control]` table of a configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::diagnosis::Diagnosis;

use crate::diagnosis::SECTION;

use super::secure::TlsFiles;

/// Where the API is served unless the file says otherwise.
pub(crate) const LISTEN: &str = "127.0.0.1:7414";
/// The folder of the control plane, beside the configuration, unless the file says otherwise.
const FOLDER: &str = "forebay-control";
/// The file of the master key, within that folder, unless the file says otherwise.
const MASTER_KEY: &str = "master.key";

/// How often a node and the control plane hear each other, unless the file says otherwise.
const HEARTBEAT_MS: u32 = 1_000;

/// The table as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlSection {
    folder: Option<PathBuf>,
    listen: Option<SocketAddr>,
    master_key: Option<PathBuf>,
    tls: Option<TlsFiles>,
    plain: Option<Plain>,
    nodes: Option<NodesSection>,
}

/// Who may be served without TLS.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Plain {
    /// This machine alone.
    Loopback,
}

/// How the API is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secured {
    /// With the pair in these files.
    Given(TlsFiles),
    /// With a pair that the control plane makes for itself.
    Own,
    /// In the clear, to this machine alone.
    Plain,
}

/// The `[control.nodes]` table as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesSection {
    listen: SocketAddr,
    #[serde(default)]
    names: Vec<String>,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    heartbeat_ms: Option<u32>,
}

/// Where nodes in other processes connect, and which may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodesFiles {
    /// Where they connect.
    pub(crate) listen: SocketAddr,
    /// Those that may connect without being defined.
    pub(crate) names: Vec<String>,
    /// The authority of both sides.
    pub(crate) ca: PathBuf,
    /// What the control plane shows.
    pub(crate) own: node::CertificateFiles,
    /// How often both sides are heard.
    pub(crate) heartbeat: Duration,
}

/// Where everything of the control plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlFiles {
    /// The folder of its store.
    pub(crate) folder: PathBuf,
    /// Where the API is served.
    pub(crate) listen: SocketAddr,
    /// The file of the master key, if neither a credential nor the environment has it.
    pub(crate) master_key: PathBuf,
    /// Whether the API is served over TLS, and with which certificate.
    pub(crate) secured: Secured,
    /// Nodes in other processes, if there are any.
    pub(crate) nodes: Option<NodesFiles>,
    /// The configuration itself, once it is known where it is: names of nodes are read from it again.
    pub(crate) config: Option<PathBuf>,
}

impl ControlSection {
    /// With what is not written filled in; paths count from `beside`.
    pub(crate) fn files(self, beside: &Path) -> Result<ControlFiles, Diagnosis> {
        let nodes = self.nodes.map(|nodes| nodes.files(beside)).transpose()?;
        let folder = beside.join(self.folder.unwrap_or_else(|| FOLDER.into()));
        let key = self.master_key.map(|key| beside.join(key));
        let given = self.tls.map(|files| TlsFiles {
            certificate: beside.join(files.certificate),
            key: beside.join(files.key),
        });
        let secured = match (given, self.plain) {
            (Some(files), None) => Secured::Given(files),
            (None, None) => Secured::Own,
            (None, Some(Plain::Loopback)) => Secured::Plain,
            (Some(_), Some(Plain::Loopback)) => {
                let (what, seen) = ("control.plain", "`loopback` beside [control.tls]");
                let needed = "one of the two";
                let remedy = "take `plain` out";
                return Err(Diagnosis::new(SECTION, what, seen, needed, remedy));
            }
        };
        Ok(ControlFiles {
            nodes,
            listen: (self.listen)
                .unwrap_or_else(|| LISTEN.parse().expect("the default is an address")),
            master_key: key.unwrap_or_else(|| folder.join(MASTER_KEY)),
            folder,
            secured,
            config: None,
        })
    }
}

impl NodesSection {
    fn files(self, beside: &Path) -> Result<NodesFiles, Diagnosis> {
        let bad = self.names.iter().find(|name| !link::frame::is_name(name));
        if let Some(name) = bad {
            let (what, seen) = ("control.nodes.names", format!("`{name}`"));
            let needed = "small letters, digits and '-', at most 63, and a letter among them";
            return Err(Diagnosis::new(SECTION, what, seen, needed, "correct it"));
        }
        let heartbeat_ms = self.heartbeat_ms.unwrap_or(HEARTBEAT_MS);
        if !link::frame::HEARTBEAT_MS.contains(&heartbeat_ms) {
            let (what, seen) = ("control.nodes.heartbeat_ms", heartbeat_ms.to_string());
            let needed = "10 to 60000";
            return Err(Diagnosis::new(SECTION, what, seen, needed, "correct it"));
        }
        Ok(NodesFiles {
            listen: self.listen,
            names: self.names,
            ca: beside.join(self.ca),
            own: node::CertificateFiles {
                certificate: beside.join(self.certificate),
                key: beside.join(self.key),
            },
            heartbeat: Duration::from_millis(heartbeat_ms.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_beside_the_configuration() {
        let empty: ControlSection = toml::from_str("").expect("everything has a default");
        let files = empty.files(Path::new("etc")).expect("good");
        assert_eq!(files.folder, Path::new("etc/forebay-control"));
        assert_eq!(
            files.master_key,
            Path::new("etc/forebay-control/master.key")
        );
        assert_eq!(files.listen.to_string(), LISTEN);
        let text = "folder = \"/var/c\"\nlisten = \"127.0.0.1:0\"\nmaster_key = \"key\"\n";
        let given: ControlSection = toml::from_str(text).expect("all there is");
        let files = given.files(Path::new("etc")).expect("good");
        assert_eq!(
            (files.folder.as_path(), files.master_key.as_path()),
            (Path::new("/var/c"), Path::new("etc/key"))
        );
        assert!(toml::from_str::<ControlSection>("port = 5").is_err());
        assert!(toml::from_str::<ControlSection>("plain = \"anywhere\"").is_err());
        let tls = "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
        for (text, secured) in [
            ("", Ok(Secured::Own)),
            ("plain = \"loopback\"", Ok(Secured::Plain)),
            (&format!("plain = \"loopback\"\n{tls}"), Err(SECTION)),
        ] {
            let section: ControlSection = toml::from_str(text).expect("all there is");
            let files = section.files(Path::new("etc"));
            let files = files.map(|files| files.secured);
            assert_eq!(files.map_err(|fault| fault.code), secured, "{text}");
        }
        let nodes = |names: &str, heartbeat: u32| {
            let text = format!(
                "[nodes]\nlisten = \"0.0.0.0:7415\"\nnames = [{names}]\nca = \"ca.pem\"\ncertificate = \"c.pem\"\nkey = \"c.key.pem\"\nheartbeat_ms = {heartbeat}\n"
            );
            let section: ControlSection = toml::from_str(&text).expect("all there is");
            section.files(Path::new("etc"))
        };
        let files = nodes("\"north\", \"south\"", 100).expect("good");
        let files = files.nodes.expect("given");
        assert_eq!(files.ca, Path::new("etc/ca.pem"));
        assert_eq!(files.names, ["north", "south"]);
        for bad in [nodes("\"North\"", 100), nodes("\"north\"", 9)] {
            assert_eq!(bad.map_err(|fault| fault.code), Err(SECTION));
        }
    }
}
