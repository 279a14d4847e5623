//! `forebay keys ls|create|rotate|revoke|restore|expire|delete`: keys of an endpoint, through the API.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use wire::diagnosis::Diagnosis;

use super::ask::{ApiArgs, escape};
use super::{Noun, WaitArgs, changed, list, show, value};
use crate::diagnosis::{ARGUMENT, CODES};
use crate::fault::Fault;
use crate::say::say;

/// What may be done to keys of an endpoint.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the keys of an endpoint
    Ls {
        /// The endpoint's full name
        endpoint: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show a key of an endpoint, without its secret
    Show {
        /// The endpoint's full name
        endpoint: String,
        /// The key's name
        key: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Give an endpoint a key; its secret is shown once
    Create {
        /// The endpoint's full name
        endpoint: String,
        /// What it opens
        #[arg(long, value_enum)]
        direction: Way,
        /// Its name; made from direction and number unless given
        #[arg(long)]
        name: Option<String>,
        /// The public half of a pair, for an Ed25519 key
        #[arg(long)]
        public: Option<String>,
        /// When it ends, such as 2027-01-31T00:00:00Z
        #[arg(long, value_name = "MOMENT")]
        expires: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Give an endpoint a new key, and those it has an end; the secret is shown once
    Rotate {
        /// The endpoint's full name
        endpoint: String,
        /// Which keys are followed
        #[arg(long, value_enum)]
        direction: Way,
        /// The new key's name; made from direction and number unless given
        #[arg(long)]
        name: Option<String>,
        /// How long those that are good now stay good
        #[arg(long, value_name = "DURATION", default_value = "1d")]
        overlap: String,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Refuse a key from now on; its open sessions are closed
    Revoke(KeyArgs),
    /// Accept a revoked key again
    Restore(KeyArgs),
    /// Let a key end at a moment, or never
    Expire {
        #[command(flatten)]
        key: KeyArgs,
        /// When, such as 2027-01-31T00:00:00Z; never unless given
        #[arg(long, value_name = "MOMENT")]
        at: Option<String>,
    },
    /// Change one value of a key: `expires=MOMENT`, `expires=`, `revoked=true` or `revoked=false`
    Set {
        #[command(flatten)]
        key: KeyArgs,
        /// The value
        value: String,
    },
    /// Forget a key
    Delete(KeyArgs),
}

/// A key, and how to ask.
#[derive(clap::Args)]
pub(crate) struct KeyArgs {
    /// The endpoint's full name
    endpoint: String,
    /// The key's name
    key: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// What a key opens.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// Sessions that send.
    Ingress,
    /// Sessions that receive.
    Egress,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Do it.
pub(crate) fn run(command: &Command) -> Result<u8, Fault> {
    match command {
        Command::Ls { endpoint, api } => {
            let path = format!("{}/keys", Noun::Endpoint.path(endpoint)?);
            let page = api.ask("GET", &path, None)?;
            list(
                page["items"].as_array().map_or(&[], Vec::as_slice),
                false,
                api.json,
            );
        }
        Command::Show { endpoint, key, api } => {
            let endpoint = Noun::Endpoint.path(endpoint)?;
            let path = format!("{endpoint}/keys/{}", escape(key));
            show(&api.ask("GET", &path, None)?, api.json);
        }
        Command::Set { key, value } => key.set(value)?,
        Command::Create {
            endpoint,
            direction,
            name,
            public,
            expires,
            wait,
            api,
        } => {
            let path = format!("{}/keys{}", Noun::Endpoint.path(endpoint)?, wait.query('?'));
            let body = json!({ "direction": direction.name(), "name": name, "public": public, "expires": expires });
            made(&api.ask("POST", &path, Some(&body))?, endpoint, api.json)?;
        }
        Command::Rotate {
            endpoint,
            direction,
            name,
            overlap,
            wait,
            api,
        } => {
            let path = format!(
                "{}/rotate{}",
                Noun::Endpoint.path(endpoint)?,
                wait.query('?')
            );
            let body = json!({ "direction": direction.name(), "name": name, "overlap": overlap });
            made(&api.ask("POST", &path, Some(&body))?, endpoint, api.json)?;
        }
        Command::Revoke(key) => key.post("revoke", None, "revoked")?,
        Command::Restore(key) => key.post("restore", None, "good again")?,
        Command::Expire { key, at } => {
            let body = json!({ "expires": at });
            let what = at.as_ref().map_or_else(
                || "good without an end".to_owned(),
                |at| format!("good until {at}"),
            );
            key.post("expire", Some(&body), &what)?;
        }
        Command::Delete(key) => {
            let path = format!("{}{}", key.path()?, key.wait.query('?'));
            let done = key.api.ask("DELETE", &path, None)?;
            changed(&done, &key.is("forgotten"), key.api.json)?;
        }
    }
    Ok(0)
}

impl KeyArgs {
    fn path(&self) -> Result<String, Fault> {
        let endpoint = Noun::Endpoint.path(&self.endpoint)?;
        Ok(format!("{endpoint}/keys/{}", escape(&self.key)))
    }

    fn is(&self, what: &str) -> String {
        format!("key `{}` of {} is {what}", self.key, self.endpoint)
    }

    fn set(&self, value: &str) -> Result<(), Fault> {
        let body = value::object(&[value.to_owned()])?;
        if let Some(expires) = body.get("expires") {
            let what = format!("good until {expires}");
            return self.post("expire", Some(&json!({ "expires": expires })), &what);
        }
        match body["revoked"].as_bool() {
            Some(true) => self.post("revoke", None, "revoked"),
            Some(false) => self.post("restore", None, "good again"),
            None => {
                let what = "a key has no such value that can be set";
                let needed = "expires=MOMENT, expires=, revoked=true or revoked=false";
                let seen = format!("`{value}`");
                Err(Diagnosis::from_table(CODES, ARGUMENT, what, seen, needed).into())
            }
        }
    }

    fn post(&self, act: &str, body: Option<&Value>, what: &str) -> Result<(), Fault> {
        let path = format!("{}/{act}{}", self.path()?, self.wait.query('?'));
        let done = self.api.ask("POST", &path, body)?;
        changed(&done, &self.is(what), self.api.json)
    }
}

/// Print a new key and its secret, which is shown once: also when not every node has it.
fn made(done: &Value, endpoint: &str, as_json: bool) -> Result<(), Fault> {
    let name = done["key"]["name"].as_str().unwrap_or("");
    let what = format!("key `{name}` of {endpoint} is made");
    let changed = changed(done, &what, as_json);
    if let (Some(secret), false) = (done["secret"].as_str(), as_json) {
        say!("id {}\nsecret {secret}", done["key"]["id"]);
    }
    changed
}
