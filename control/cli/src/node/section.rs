//! The `[link]` table of a configuration: the control plane that a node's tables come from.

use std::path::{Path, PathBuf};

use wire::diagnosis::Diagnosis;

use crate::diagnosis::SECTION;

/// The folder of the last table, beside the configuration, unless the file says otherwise.
const TABLE: &str = "forebay-table";

/// The table as it is written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkSection {
    name: String,
    control: String,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    table: Option<PathBuf>,
}

/// Where a node's tables come from, and where the last one is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkFiles {
    /// The name of this node.
    pub(crate) name: String,
    /// Host and port of the control plane.
    pub(crate) control: String,
    /// The authority of both sides.
    pub(crate) ca: PathBuf,
    /// What this node shows.
    pub(crate) own: node::CertificateFiles,
    /// The folder of the last table.
    pub(crate) table: PathBuf,
}

impl LinkSection {
    /// With what is not written filled in; paths count from `beside`.
    pub(crate) fn files(self, beside: &Path) -> Result<LinkFiles, Diagnosis> {
        if !link::frame::is_name(&self.name) {
            let needed = "small letters, digits and '-', at most 63, and a letter among them";
            return Err(refused("link.name", &self.name, needed));
        }
        if host(&self.control).is_none() {
            let needed = "host:port, such as control.example:7415";
            return Err(refused("link.control", &self.control, needed));
        }
        Ok(LinkFiles {
            name: self.name,
            control: self.control,
            ca: beside.join(self.ca),
            own: node::CertificateFiles {
                certificate: beside.join(self.certificate),
                key: beside.join(self.key),
            },
            table: beside.join(self.table.unwrap_or_else(|| TABLE.into())),
        })
    }
}

impl LinkFiles {
    /// The host of the control plane, whose certificate is for it.
    pub(crate) fn host(&self) -> &str {
        host(&self.control).expect("it was checked when it was read")
    }
}

/// The host of `host:port`, without the brackets of an address of IPv6.
fn host(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']'))?;
    let good = port.parse::<u16>().is_ok_and(|port| port > 0) && !bare.is_empty();
    good.then_some(bare)
}

fn refused(what: &str, seen: &str, needed: &str) -> Diagnosis {
    Diagnosis::new(SECTION, what, format!("`{seen}`"), needed, "correct it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LinkFiles, Diagnosis> {
        let section: LinkSection = toml::from_str(text).expect("TOML of these keys");
        section.files(Path::new("etc"))
    }

    #[test]
    fn a_link_has_a_name_and_a_place_and_its_files_are_beside_the_configuration() {
        let rest = "ca = \"ca.pem\"\ncertificate = \"n.pem\"\nkey = \"/k/n.key.pem\"\n";
        let good = format!("name = \"north\"\ncontrol = \"[::1]:7415\"\n{rest}");
        let files = read(&good).expect("good");
        assert_eq!((files.name.as_str(), files.host()), ("north", "::1"));
        assert_eq!(files.table, Path::new("etc/forebay-table"));
        assert_eq!(files.own.key, Path::new("/k/n.key.pem"));
        for (name, control) in [
            ("North", "a:1"),
            ("n", "a"),
            ("n", "a:0"),
            ("n", ":1"),
            ("n", "[::1:1"),
            ("n", "a:65536"),
        ] {
            let text = format!("name = \"{name}\"\ncontrol = \"{control}\"\n{rest}");
            assert_eq!(
                read(&text).map_err(|fault| fault.code),
                Err(SECTION),
                "{text}"
            );
        }
        assert!(toml::from_str::<LinkSection>(&format!("{good}more = 1\n")).is_err());
    }
}
