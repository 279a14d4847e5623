//! The `[control]` table of a configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::secure::TlsFiles;

/// Where the API is served unless the file says otherwise.
pub(crate) const LISTEN: &str = "127.0.0.1:7414";
/// The folder of the control plane, beside the configuration, unless the file says otherwise.
const FOLDER: &str = "forebay-control";
/// The file of the master key, within that folder, unless the file says otherwise.
const MASTER_KEY: &str = "master.key";

/// The table as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlSection {
    folder: Option<PathBuf>,
    listen: Option<SocketAddr>,
    master_key: Option<PathBuf>,
    tls: Option<TlsFiles>,
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
    /// The certificate of the API; without one it is served to this machine alone.
    pub(crate) tls: Option<TlsFiles>,
}

impl ControlSection {
    /// With what is not written filled in; paths count from `beside`.
    pub(crate) fn files(self, beside: &Path) -> ControlFiles {
        let folder = beside.join(self.folder.unwrap_or_else(|| FOLDER.into()));
        let key = self.master_key.map(|key| beside.join(key));
        let tls = self.tls.map(|files| TlsFiles {
            certificate: beside.join(files.certificate),
            key: beside.join(files.key),
        });
        ControlFiles {
            listen: (self.listen)
                .unwrap_or_else(|| LISTEN.parse().expect("the default is an address")),
            master_key: key.unwrap_or_else(|| folder.join(MASTER_KEY)),
            folder,
            tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_is_beside_the_configuration() {
        let empty: ControlSection = toml::from_str("").expect("everything has a default");
        let files = empty.files(Path::new("etc"));
        assert_eq!(files.folder, Path::new("etc/forebay-control"));
        assert_eq!(
            files.master_key,
            Path::new("etc/forebay-control/master.key")
        );
        assert_eq!(files.listen.to_string(), LISTEN);
        let text = "folder = \"/var/c\"\nlisten = \"127.0.0.1:0\"\nmaster_key = \"key\"\n";
        let given: ControlSection = toml::from_str(text).expect("all there is");
        let files = given.files(Path::new("etc"));
        assert_eq!(
            (files.folder.as_path(), files.master_key.as_path()),
            (Path::new("/var/c"), Path::new("etc/key"))
        );
        assert!(toml::from_str::<ControlSection>("port = 5").is_err());
    }
}
