//! The files a command works on: the configuration, the plan it names, the route table the plan gives.

use std::path::{Path, PathBuf};

use node::config::NodeConfig;
use wire::diagnosis::Diagnosis;
use wire::ids::Direction;
use wire::route::{EndpointView, KeyRef, KeyView, RouteTable};
use wire::signature::SecretKey;

use crate::control::ControlFiles;
use crate::control::section::ControlSection;
use crate::diagnosis::{CONFIG_UNREADABLE, KEY_UNFIT, NO_PLAN, NOT_IN_PLAN, SECTION};
use crate::fault::Fault;
use crate::node::LinkFiles;
use crate::node::section::LinkSection;

/// The `[plan]` table.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanSection {
    file: Option<PathBuf>,
}

/// What the command line cares about in the file; the rest is the node's.
#[derive(serde::Deserialize)]
struct Sections {
    plan: Option<PlanSection>,
    control: Option<ControlSection>,
    link: Option<LinkSection>,
}

/// A configuration file and the place of its plan.
pub(crate) struct Project {
    /// The node's part.
    pub(crate) node: NodeConfig,
    /// Who may do what.
    pub(crate) source: Source,
}

/// Where it stands who may do what. Relative paths are resolved beside the configuration.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In a plan.
    Plan(PathBuf),
    /// In the store of a control plane; a new one begins with the plan, if there is one.
    Control(ControlFiles, Option<PathBuf>),
    /// In a control plane in another process.
    Link(LinkFiles),
}

impl Source {
    /// Its file.
    pub(crate) fn file(&self) -> &Path {
        match self {
            Self::Plan(plan) => plan,
            Self::Control(files, _) => &files.folder,
            Self::Link(files) => &files.table,
        }
    }
}

impl Project {
    /// Read and check the configuration file; relative paths in it are relative to its own folder.
    pub(crate) fn read(config: &Path) -> Result<Self, Fault> {
        let text = std::fs::read_to_string(config).map_err(|error| {
            let what = format!("configuration {} cannot be read", config.display());
            Diagnosis::new(
                CONFIG_UNREADABLE,
                what,
                error.to_string(),
                "a readable TOML file",
                "check --config; `forebay quickstart` makes one",
            )
        })?;
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let mut node = NodeConfig::parse(&text, variables).map_err(|mut diagnosis| {
            diagnosis.what = format!("{}: {}", config.display(), diagnosis.what);
            diagnosis
        })?;
        let sections: Sections = toml::from_str(&text).map_err(|error| {
            let what = format!("{}: tables [plan], [control] and [link]", config.display());
            let seen = error.message().lines().next().unwrap_or_default();
            let needed = "`file` under [plan]; `folder`, `listen`, `master_key` and [control.nodes] under [control]; `name`, `control`, `ca`, `certificate`, `key` and `table` under [link]";
            Diagnosis::new(SECTION, what, seen, needed, "correct the table")
        })?;
        let folder = config.parent().unwrap_or(Path::new(""));
        let plan = sections.plan.and_then(|plan| plan.file);
        let plan = plan.map(|plan| folder.join(plan));
        let source = match (sections.control, sections.link, plan) {
            (Some(control), None, plan) => {
                let mut files = control.files(folder)?;
                files.config = Some(config.to_owned());
                Source::Control(files, plan)
            }
            (None, Some(link), None) => Source::Link(link.files(folder)?),
            (None, None, Some(plan)) => Source::Plan(plan),
            (_, Some(_), _) => {
                let what = format!("{} has two masters", config.display());
                let (seen, needed) = ("[link] beside [plan] or [control]", "one of them");
                let remedy = "take [link] out, or the others: a node follows one control plane";
                return Err(Diagnosis::new(SECTION, what, seen, needed, remedy).into());
            }
            (None, None, None) => {
                let what = format!("{} names no plan", config.display());
                let (seen, needed) = ("no `file` under [plan]", "the path of a plan");
                let remedy = "add [plan] with file = \"plan.toml\", or [control], or [link]";
                return Err(Diagnosis::new(NO_PLAN, what, seen, needed, remedy).into());
            }
        };
        node.data = folder.join(&node.data);
        if let Some(files) = &mut node.tls {
            files.certificate = folder.join(&files.certificate);
            files.key = folder.join(&files.key);
        }
        if let Some(authority) = &mut node.clients.authority {
            *authority = folder.join(&authority);
        }
        Ok(Self { node, source })
    }

    /// Compile the plan as this epoch, or what a control plane that does not run has in its store.
    pub(crate) fn table(&self, epoch: u64) -> Result<RouteTable, Vec<Diagnosis>> {
        match &self.source {
            Source::Plan(plan) => read_plan(plan, epoch),
            Source::Control(files, _) => crate::control::table(files),
            Source::Link(files) => crate::node::table(files).map_err(|fault| vec![fault]),
        }
    }
}

/// Compile the plan in this file.
pub(crate) fn read_plan(file: &Path, epoch: u64) -> Result<RouteTable, Vec<Diagnosis>> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let code = control::diagnosis::UNREADABLE;
        let remedy = "check `file` under [plan], or --plan, and its permissions";
        vec![Diagnosis::new(
            code,
            format!("plan {name} cannot be read"),
            error.to_string(),
            "a readable TOML file",
            remedy,
        )]
    })?;
    control::compile_epoch(&text, &name, epoch)
}

/// The endpoint of this name; a name without slashes is looked for in every environment.
pub(crate) fn endpoint<'a>(
    table: &'a RouteTable,
    name: &str,
) -> Result<EndpointView<'a>, Diagnosis> {
    let suffix = format!("/{name}");
    let found = table.endpoint_by_name(name).or_else(|| {
        let mut ends = table
            .endpoints()
            .filter(|endpoint| endpoint.name().ends_with(&suffix));
        ends.next().filter(|_| ends.next().is_none())
    });
    found.ok_or_else(|| {
        let known = table.endpoints().map(|endpoint| endpoint.name());
        not_in_plan("endpoint", name, known)
    })
}

/// Something named that the plan does not have.
pub(crate) fn not_in_plan<'a>(
    kind: &str,
    seen: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Diagnosis {
    let remedy = match control::nearest::nearest(seen, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!(
            "add it to the plan, or use one of: {}",
            known.take(8).collect::<Vec<_>>().join(", ")
        ),
    };
    Diagnosis::new(
        NOT_IN_PLAN,
        format!("the plan has no such {kind}"),
        format!("`{seen}`"),
        format!("a declared {kind}"),
        remedy,
    )
}

/// The key an endpoint uses in one direction: the named one, or the first that is active, with its secret.
pub(crate) fn key<'a>(
    endpoint: &EndpointView<'a>,
    name: Option<&str>,
    direction: Direction,
) -> Result<(KeyView<'a>, SecretKey), Diagnosis> {
    let named =
        match name {
            Some(name) => Some(endpoint.key_by_name(name).ok_or_else(|| {
                not_in_plan("key", name, endpoint.keys.iter().map(|key| key.name()))
            })?),
            None => endpoint.keys.iter().find(|key| {
                key.direction == direction
                    && !key.revoked
                    && matches!(key.material, KeyRef::Symmetric(_))
            }),
        };
    let unfit = |seen: String| {
        let what = format!("{} has no key for this", endpoint.name());
        let needed = format!("an active hmac-sha256 key for {direction}");
        Diagnosis::new(
            KEY_UNFIT,
            what,
            seen,
            needed,
            "name another with --key, or add one to the plan",
        )
    };
    let key = named.ok_or_else(|| unfit("none".to_owned()))?;
    match key.secret() {
        Some(secret) if key.direction == direction && !key.revoked => Ok((key, secret)),
        Some(_) if key.revoked => Err(unfit(format!("key `{}`, revoked", key.name()))),
        Some(_) => Err(unfit(format!("key `{}` for {}", key.name(), key.direction))),
        None => Err(unfit(format!("key `{}`, ed25519", key.name()))),
    }
}

/// `[plan]` and `[node]` of a configuration, whichever of the two a command was given.
#[derive(clap::Args)]
pub(crate) struct PlanArgs {
    /// Configuration file whose plan to use
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    pub(crate) config: PathBuf,
    /// Plan file to use instead of the one the configuration names
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
}

impl PlanArgs {
    /// The route table of the plan.
    pub(crate) fn table(&self) -> Result<RouteTable, Fault> {
        match &self.plan {
            Some(plan) => Ok(read_plan(plan, 1)?),
            None => Ok(Project::read(&self.config)?.table(1)?),
        }
    }
}
