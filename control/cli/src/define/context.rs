//! `forebay context ls|show|set|use|delete`: control planes by name, so that commands need not be told where and as whom.
//!
//! They stand in one file of their user, which nobody else may read. It names files of tokens and holds none itself.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::place::{Place, absolute};
use super::{list, show};
use crate::diagnosis::{CODES, CONTEXT_FILE, CONTEXT_UNKNOWN};
use crate::fault::Fault;
use crate::say::say;

/// The variable that names another file.
const FILE: &str = "FOREBAY_CONTEXTS";

/// Arguments of `context`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the contexts
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one, or the one in use
    Show {
        /// Its name
        name: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make one, or change what is given of it; the first one is used from then on
    #[command(visible_alias = "create")]
    Set {
        /// Its name
        name: String,
        /// Where the API is: https://HOST:PORT, or HOST:PORT; http:// and this machine for one that is served in the clear
        #[arg(long, value_name = "URL")]
        api: Option<String>,
        /// File with the token
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Authorities that may have signed the API's certificate, as PEM; without this and --pin, `api.pem` beside the token is trusted alone
        #[arg(long, value_name = "FILE", conflicts_with = "pin")]
        ca: Option<PathBuf>,
        /// SHA-256 of the API's certificate
        #[arg(long, value_name = "FINGERPRINT")]
        pin: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Use one from now on
    Use {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget one
    Delete {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One control plane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// Where its API is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<String>,
    /// File with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    /// Authorities that may have signed its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    /// Or the fingerprint of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<String>,
}

impl Context {
    /// The one of this name, or the one in use; none if there is none in use.
    pub(super) fn chosen(name: Option<&str>) -> Result<Option<Self>, Diagnosis> {
        let Some(path) = path() else {
            return match name {
                Some(name) => Err(unknown(name, &Contexts::default())),
                None => Ok(None),
            };
        };
        let contexts = Contexts::read(&path)?;
        match name.or(contexts.current.as_deref()) {
            None => Ok(None),
            Some(name) => contexts.get(name).map(|one| Some(one.clone())),
        }
    }
}

/// Where the file is.
fn path() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(file) = variable(FILE) {
        return Some(file.into());
    }
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".config"));
    let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    folder.map(|folder| folder.join("forebay").join("contexts.toml"))
}

impl Contexts {
    /// What the file holds; nothing if there is none.
    fn read(path: &Path) -> Result<Self, Diagnosis> {
        let mode = match std::fs::metadata(path) {
            Ok(about) => about.permissions().mode(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(file(path, error.to_string(), "a file of this user")),
        };
        if mode & 0o022 != 0 {
            let seen = format!("mode {:04o}", mode & 0o7777);
            let needed = "mode 0600: whoever writes it says where tokens go";
            return Err(file(path, seen, needed));
        }
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| file(path, error.to_string(), "a file of this user"))?;
        toml::from_str(&text).map_err(|error| {
            let seen = error
                .message()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            file(path, seen, "what `forebay context set` writes")
        })
    }

    /// Put it in the place of the file, whole.
    fn write(&self, path: &Path) -> Result<(), Diagnosis> {
        let unwritten =
            |error: std::io::Error| file(path, error.to_string(), "a folder of this user");
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(unwritten)?;
        let text = toml::to_string(self).expect("names and paths have a form in TOML");
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&new).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        });
        written.map_err(unwritten)
    }

    fn get(&self, name: &str) -> Result<&Context, Diagnosis> {
        self.contexts.get(name).ok_or_else(|| unknown(name, self))
    }

    /// One as it is shown.
    fn shown(&self, name: &str, context: &Context) -> Value {
        let mut value = serde_json::to_value(context).expect("names and paths have a form in JSON");
        value["name"] = name.into();
        value["current"] = (self.current.as_deref() == Some(name)).into();
        value
    }
}

fn unknown(name: &str, contexts: &Contexts) -> Diagnosis {
    let known = contexts.contexts.keys().map(String::as_str);
    let remedy = match control::nearest::nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "make it with `forebay context set`".to_owned(),
    };
    let what = "there is no such context";
    let needed = "one of `forebay context ls`";
    Diagnosis::new(CONTEXT_UNKNOWN, what, format!("`{name}`"), needed, remedy)
}

fn file(path: &Path, seen: String, needed: &str) -> Diagnosis {
    let what = format!("contexts {} cannot be used", path.display());
    Diagnosis::from_table(CODES, CONTEXT_FILE, what, seen, needed)
}

/// Look, or change the file.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let homeless = || {
        file(
            Path::new(""),
            "neither HOME nor FOREBAY_CONTEXTS".into(),
            "one of them",
        )
    };
    let path = path().ok_or_else(homeless)?;
    let mut contexts = Contexts::read(&path)?;
    match &args.command {
        Command::Ls { json } => {
            let all = contexts.contexts.iter();
            let rows: Vec<Value> = all.map(|(name, one)| contexts.shown(name, one)).collect();
            list(&rows, false, *json);
        }
        Command::Show { name, json } => {
            let none = "none is in use";
            let name = name
                .as_deref()
                .or(contexts.current.as_deref())
                .unwrap_or(none);
            show(&contexts.shown(name, contexts.get(name)?), *json);
        }
        Command::Set {
            name,
            api,
            token_file,
            ca,
            pin,
            json,
        } => {
            let given = Context {
                api: api.clone(),
                token_file: token_file.as_deref().map(absolute),
                ca: ca.as_deref().map(absolute),
                pin: pin.clone(),
            };
            contexts.set(name, given)?;
            contexts.write(&path)?;
            done(&contexts, name, "is set", *json);
        }
        Command::Use { name, json } => {
            contexts.get(name)?;
            contexts.current = Some(name.clone());
            contexts.write(&path)?;
            done(&contexts, name, "is in use", *json);
        }
        Command::Delete { name, json } => {
            contexts.get(name)?;
            contexts.contexts.remove(name);
            contexts.current.take_if(|current| current == name);
            contexts.write(&path)?;
            done(&contexts, name, "is forgotten", *json);
        }
    }
    Ok(0)
}

impl Contexts {
    /// Put in what is given; the rest stays. What cannot be asked is not kept.
    fn set(&mut self, name: &str, given: Context) -> Result<(), Diagnosis> {
        let context = self.contexts.entry(name.to_owned()).or_default();
        context.api = given.api.or(context.api.take());
        context.token_file = given.token_file.or(context.token_file.take());
        if given.ca.is_some() || given.pin.is_some() {
            (context.ca, context.pin) = (given.ca, given.pin);
        }
        if let Some(api) = &context.api {
            Place::read(api, context.ca.as_deref(), context.pin.as_deref())?;
        }
        self.current.get_or_insert_with(|| name.to_owned());
        Ok(())
    }
}

fn done(contexts: &Contexts, name: &str, what: &str, as_json: bool) {
    match as_json {
        true => say!("{}", json!({ "name": name, "current": contexts.current })),
        false => say!("context `{name}` {what}"),
    }
}
