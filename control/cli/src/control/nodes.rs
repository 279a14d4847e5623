//! Nodes in other processes: where they connect, by which certificates, and which may; the files of all that are read again when they change.

use std::path::Path;
use std::sync::Arc;

use link::{Credentials, Fleet, Listening, Tell};
use tls::LinkServer;
use wire::diagnosis::Diagnosis;

use super::section::NodesFiles;
use crate::diagnosis::SECTION;
use crate::looking::{Files, Looking};
use crate::node::{authority, unusable};
use crate::project::{Project, Source};

/// Nodes that may connect until this is dropped or ended.
pub(super) struct Open {
    pub(super) listening: Listening,
    _looking: Looking,
}

/// Let nodes connect; `config` is where their names stand.
pub(super) fn open(
    nodes: &NodesFiles,
    (config, here): (Option<&Path>, Option<&str>),
    fleet: Fleet,
    tell: Arc<dyn Tell>,
) -> Result<Open, Diagnosis> {
    let paths = [&nodes.ca, &nodes.own.certificate, &nodes.own.key].map(Clone::clone);
    let events = ("link_certificate_replaced", "link_certificate_refused");
    let mut shown = Files::new(paths.to_vec(), events, Arc::clone(&tell));
    let events = ("node_names_replaced", "node_names_refused");
    let paths = config.into_iter().map(Path::to_owned).collect();
    let mut named = Files::new(paths, events, Arc::clone(&tell));
    let credentials = Credentials::new(server(nodes)?);
    let listening = link::listen(
        nodes.listen,
        credentials.clone(),
        fleet.clone(),
        nodes.heartbeat,
        tell,
    )?;
    let (nodes, config) = (nodes.clone(), config.map(Path::to_owned));
    let here = here.map(str::to_owned);
    let looking = Looking::start(move || {
        shown.look(|differ| {
            let new = server(&nodes)?;
            credentials.replace(new, differ[0]);
            Ok(())
        });
        if let Some(config) = &config {
            named.look(|_| {
                fleet.set_names(others(names(config)?, here.as_deref())?);
                Ok(())
            });
        }
    })?;
    Ok(Open {
        listening,
        _looking: looking,
    })
}

fn server(nodes: &NodesFiles) -> Result<LinkServer, Diagnosis> {
    let own = nodes.own.read()?;
    let server = LinkServer::new(&own, &authority(&nodes.ca)?);
    server.map_err(|fault| unusable(&nodes.ca, &fault))
}

/// The names, of which none may be that of the node of this process: endpoints at home there would be served twice.
pub(super) fn others(names: Vec<String>, here: Option<&str>) -> Result<Vec<String>, Diagnosis> {
    let Some(here) = here.filter(|here| names.iter().any(|name| name == here)) else {
        return Ok(names);
    };
    let (what, seen) = ("control.nodes.names", format!("`{here}`"));
    let needed = "names of nodes in other processes";
    let remedy = "take it out: the node of this process is called so";
    Err(Diagnosis::new(SECTION, what, seen, needed, remedy))
}

/// The names of nodes in a configuration.
fn names(config: &Path) -> Result<Vec<String>, Diagnosis> {
    let gone = || {
        let what = format!("{} has no nodes any more", config.display());
        let (seen, needed) = ("no [control.nodes]", "the table it had at start");
        let remedy = "put it back, or stop the control plane";
        Diagnosis::new(SECTION, what, seen, needed, remedy)
    };
    let project = Project::read(config);
    let project = project.map_err(|mut fault| fault.found.pop().unwrap_or_else(gone))?;
    match project.source {
        Source::Control(files, _) => files.nodes.map(|nodes| nodes.names).ok_or_else(gone),
        _ => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_node_of_this_process_is_nobody_elses() {
        let names = || vec!["north".to_owned(), "here".to_owned()];
        assert_eq!(others(names(), None), Ok(names()));
        assert_eq!(others(names(), Some("south")), Ok(names()));
        let fault = others(names(), Some("here")).expect_err("it would be served twice");
        assert_eq!((fault.code, &*fault.seen), (SECTION, "`here`"));
    }
}
