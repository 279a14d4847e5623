//! Writes the text of a plan, for tools that make one: every plan written here compiles.

use std::fmt::Write;

use crate::model::account_of;

/// A plan to be written.
#[derive(Debug, Default)]
pub struct NewPlan {
    /// `account/environment` that everything below belongs to.
    pub environment: String,
    /// Partitions of the environment's default hub.
    pub partitions: u16,
    /// `durable` or `local`.
    pub ack: String,
    /// Channels, last part of the name.
    pub channels: Vec<String>,
    /// Endpoints.
    pub endpoints: Vec<NewEndpoint>,
}

/// An endpoint to be written; each grant list gives it one key of that direction.
#[derive(Default)]
pub struct NewEndpoint {
    /// Last part of the name.
    pub name: String,
    /// May relay envelopes.
    pub relay: bool,
    /// Secret of its ingress key 1, when it sends.
    pub ingress: Option<String>,
    /// Secret of its egress key 2, when it receives.
    pub egress: Option<String>,
    /// Channels it may send to.
    pub send: Vec<String>,
    /// Channels it hears.
    pub receive: Vec<String>,
}

impl std::fmt::Debug for NewEndpoint {
    /// Names the endpoint and keeps its secrets out of every log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NewEndpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The id that `render` gives ingress keys.
pub const INGRESS_KEY_ID: u32 = 1;
/// The id that `render` gives egress keys.
pub const EGRESS_KEY_ID: u32 = 2;

/// The text of the plan.
#[must_use]
pub fn render(plan: &NewPlan) -> String {
    let mut out = String::from(
        "# Who may do what. Checked by `forebay config check`; read again on SIGHUP.\n\
         # It holds secrets: keep it readable by its owner only.\n\n",
    );
    let environment = &plan.environment;
    let account = account_of(environment);
    table(&mut out, "accounts", account);
    table(&mut out, "environments", environment);
    table(&mut out, "hubs", &format!("{environment}/default"));
    pair(&mut out, "partitions", &plan.partitions.to_string());
    text(&mut out, "ack", &plan.ack);
    for channel in &plan.channels {
        table(&mut out, "channels", &format!("{environment}/{channel}"));
    }
    for endpoint in &plan.endpoints {
        table(
            &mut out,
            "endpoints",
            &format!("{environment}/{}", endpoint.name),
        );
        if endpoint.relay {
            pair(&mut out, "relay", "true");
        }
        let keys = [
            (INGRESS_KEY_ID, "ingress", &endpoint.ingress),
            (EGRESS_KEY_ID, "egress", &endpoint.egress),
        ];
        for (id, direction, secret) in keys {
            if let Some(secret) = secret {
                out.push_str("\n[[endpoints.keys]]\n");
                pair(&mut out, "id", &id.to_string());
                text(&mut out, "name", &format!("{direction}-primary"));
                text(&mut out, "direction", direction);
                text(&mut out, "secret", secret);
            }
        }
        for (allow, channels) in [("send", &endpoint.send), ("receive", &endpoint.receive)] {
            for channel in channels {
                out.push_str("\n[[endpoints.grants]]\n");
                text(&mut out, "channel", channel);
                text(&mut out, "allow", allow);
            }
        }
    }
    out
}

fn table(out: &mut String, kind: &str, name: &str) {
    let gap = if out.ends_with("\n\n") { "" } else { "\n" };
    writeln!(out, "{gap}[[{kind}]]").expect("writing to a String cannot fail");
    text(out, "name", name);
}

fn text(out: &mut String, key: &str, value: &str) {
    pair(out, key, &toml::Value::from(value).to_string());
}

fn pair(out: &mut String, key: &str, value: &str) {
    writeln!(out, "{key} = {value}").expect("writing to a String cannot fail");
}
