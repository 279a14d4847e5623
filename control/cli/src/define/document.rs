//! `forebay apply|export|audit`: everything in one document, and what became of it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use control::diagnosis::CHANGED_MEANWHILE;
use control::service::{Apply, Caller};
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::ask::ApiArgs;
use super::{WaitArgs, changed, list, show};
use crate::diagnosis::{AUDIT_FAULTS, CODES};
use crate::fault::Fault;
use crate::project::{Project, Source};
use crate::say::say;

/// How often a document is tried while others change other things.
const TRIES: u32 = 20;

/// Arguments of `apply`.
#[derive(clap::Args)]
pub(crate) struct ApplyArgs {
    /// The document: a plan file
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Delete what it does not name, in the accounts that it names
    #[arg(long)]
    prune: bool,
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Write to the store of a control plane that does not run: for hubs, which a node opens when it starts
    #[arg(long)]
    offline: bool,
    /// The configuration that names that store
    #[arg(
        long,
        value_name = "FILE",
        default_value = "forebay.toml",
        requires = "offline"
    )]
    config: PathBuf,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `export`.
#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// What becomes of secrets
    #[arg(long, value_enum, default_value_t = Secrets::None)]
    secrets: Secrets,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Secrets {
    /// They are left out
    None,
    /// Sealed: of use with the same master key alone
    Sealed,
    /// As they are
    Plain,
}

/// Arguments of `audit`.
#[derive(clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List what was changed, by whom and when
    Ls {
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Check that no line was altered, left out or put in
    Verify {
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Compare, print what differs, and make it so.
pub(crate) fn apply(args: &ApplyArgs) -> Result<u8, Fault> {
    let name = args.file.display().to_string();
    let (mut model, _) = crate::control::read_model(&args.file)?;
    if args.offline {
        return apply_offline(args, model);
    }
    for endpoint in &mut model.endpoints {
        for key in &mut endpoint.keys {
            key.secret = key.secret.take().map(control::model::Secret::exposed);
        }
    }
    let document = serde_json::to_value(&model).expect("texts and numbers have a form in JSON");
    let mut body = json!({ "document": document, "prune": args.prune });
    let mut told = compare(args, &mut body)?;
    if args.dry_run || !args.api.json {
        let differences = told["differences"].as_array();
        differ(differences.map_or(&[], Vec::as_slice), args.api.json);
    }
    if args.dry_run {
        return Ok(0);
    }
    let path = format!("/v1/apply{}", args.wait.query('?'));
    let mut tries = TRIES;
    let done = loop {
        body["dry_run"] = false.into();
        body["if_version"] = told["version"].clone();
        let fault = match args.api.ask("POST", &path, Some(&body)) {
            Ok(done) => break done,
            Err(fault) => fault,
        };
        tries -= 1;
        let meanwhile = fault.found.iter().any(|one| one.code == CHANGED_MEANWHILE);
        if !meanwhile || tries == 0 {
            return Err(fault);
        }
        // What others changed is of no account if what differs is what was shown.
        let now = compare(args, &mut body)?;
        if now["differences"] != told["differences"] {
            return Err(fault);
        }
        told = now;
    };
    changed(&done, &format!("{name} holds"), args.api.json)?;
    Ok(0)
}

/// What differs, and the version that was looked at.
fn compare(args: &ApplyArgs, body: &mut Value) -> Result<Value, Fault> {
    body["dry_run"] = true.into();
    body["if_version"] = Value::Null;
    args.api.ask("POST", "/v1/apply", Some(body))
}

/// The same with a store that no process has open.
fn apply_offline(args: &ApplyArgs, model: control::model::Model) -> Result<u8, Fault> {
    let Source::Control(files, _) = Project::read(&args.config)?.source else {
        let (what, seen) = ("there is no store to write to", "no [control]");
        let (code, needed) = (crate::diagnosis::NO_PLAN, "a configuration with [control]");
        return Err(Diagnosis::from_table(CODES, code, what, seen, needed).into());
    };
    let service = crate::control::offline(&files)?;
    let (local, prune) = (Caller::local(), args.prune);
    let create = false;
    let apply = Apply {
        model,
        prune,
        create,
    };
    let told = service.differences(&local, &apply);
    let differences = told.map_err(crate::control::faults)?;
    let value = serde_json::to_value(&differences).expect("texts and numbers have a form in JSON");
    differ(value.as_array().map_or(&[], Vec::as_slice), args.api.json);
    if !args.dry_run {
        let done = service
            .apply(&local, &apply)
            .map_err(crate::control::faults)?;
        let what = format!("{} holds when the node starts", args.file.display());
        changed(&json!({ "version": done.version }), &what, args.api.json)?;
    }
    Ok(0)
}

/// Print what differs, a line for each value.
fn differ(differences: &[Value], as_json: bool) {
    if as_json {
        say!("{}", json!({ "differences": differences }));
        return;
    }
    for one in differences {
        let text = |key: &str| one[key].as_str().unwrap_or("").to_owned();
        let sign = match text("action").as_str() {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        say!("{sign} {} {}", text("noun"), text("name"));
        if sign != '~' {
            continue;
        }
        let empty = serde_json::Map::new();
        let (before, after) = (&one["before"], &one["after"]);
        let keys = [before, after].map(|side| side.as_object().unwrap_or(&empty).keys());
        let [old, new] = keys;
        let keys: std::collections::BTreeSet<&String> = old.chain(new).collect();
        for key in keys.into_iter().filter(|key| before[*key] != after[*key]) {
            say!("    {key}: {} -> {}", before[key], after[key]);
        }
    }
    if differences.is_empty() {
        say!("nothing differs");
    }
}

/// Print everything as a plan file.
pub(crate) fn export(args: &ExportArgs) -> Result<u8, Fault> {
    let secrets = match args.secrets {
        Secrets::None => "none",
        Secrets::Sealed => "sealed",
        Secrets::Plain => "plain",
    };
    let path = format!("/v1/export?secrets={secrets}");
    let document = args.api.ask("GET", &path, None)?;
    if args.api.json {
        say!("{document}");
        return Ok(0);
    }
    let mut model: control::model::Model = serde_json::from_value(document).map_err(|error| {
        let what = "the exported document cannot be read";
        let needed = "a document of this version";
        let code = crate::diagnosis::API_STRANGE;
        Diagnosis::from_table(CODES, code, what, error.to_string(), needed)
    })?;
    for endpoint in &mut model.endpoints {
        for key in &mut endpoint.keys {
            key.secret = key.secret.take().map(control::model::Secret::exposed);
        }
    }
    crate::say::write(format_args!("{}", control::plan::write(&model)?));
    Ok(0)
}

/// List or check.
pub(crate) fn audit(args: &AuditArgs) -> Result<u8, Fault> {
    match &args.command {
        AuditCommand::Ls { api } => {
            let mut lines = api.all("/v1/audit")?;
            if !api.json {
                for line in lines.iter_mut().filter_map(Value::as_object_mut) {
                    line.remove("before");
                    line.remove("after");
                }
            }
            list(&lines, false, api.json);
        }
        AuditCommand::Verify { api } => {
            let verdict = api.ask("GET", "/v1/audit/verify", None)?;
            show(&verdict, api.json);
            if let Some(fault) = verdict["faults"]
                .as_array()
                .and_then(|faults| faults.first())
            {
                let what = "the audit log was altered";
                let seen = fault.as_str().unwrap_or_default();
                let needed = "an unbroken chain";
                return Err(Diagnosis::from_table(CODES, AUDIT_FAULTS, what, seen, needed).into());
            }
        }
    }
    Ok(0)
}
