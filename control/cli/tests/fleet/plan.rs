//! The text of a plan whose endpoints, keys and grants may have an end.

use std::fmt::Write;

use control::keys::new_secret;
use wire::signature::{SigningKey, verifying_key_to_base64};

use super::world::{Process, Way, World};

/// Names everything in it.
pub(crate) const ENVIRONMENT: &str = "acme/prod";
/// The keys that endpoints begin with, and those that follow.
pub(crate) const FIRST: u32 = 1;
pub(crate) const SECOND: u32 = 2;

/// The full name of something.
pub(crate) fn full(name: &str) -> String {
    format!("{ENVIRONMENT}/{name}")
}

/// A key of an endpoint; it has the name `first` or `second`.
pub(crate) struct PlanKey<'p> {
    pub(crate) id: u32,
    pub(crate) direction: &'static str,
    /// A line with the secret or the public half.
    pub(crate) material: &'p str,
    /// A line with its end, if it has one.
    pub(crate) ends: &'p str,
}

impl<'p> PlanKey<'p> {
    pub(crate) fn first(direction: &'static str, material: &'p str, ends: &'p str) -> Self {
        let id = FIRST;
        Self {
            id,
            direction,
            material,
            ends,
        }
    }
}

/// A plan under way.
pub(crate) struct Plan(String);

impl Plan {
    pub(crate) fn new(channels: &[&str]) -> Self {
        let mut text = format!(
            "[[accounts]]\nname = \"acme\"\n[[environments]]\nname = \"{ENVIRONMENT}\"\n[[hubs]]\nname = \"{ENVIRONMENT}/default\"\npartitions = 4\nack = \"local\"\n"
        );
        for channel in channels {
            line(
                &mut text,
                &format!("[[channels]]\nname = \"{}\"", full(channel)),
            );
        }
        Self(text)
    }

    /// An endpoint with these keys and grants; `more` are lines of its own.
    pub(crate) fn endpoint(
        &mut self,
        name: &str,
        more: &str,
        keys: &[PlanKey<'_>],
        (allow, channel, ends): (&str, &str, &str),
    ) {
        let text = &mut self.0;
        line(
            text,
            &format!("[[endpoints]]\nname = \"{}\"\n{more}", full(name)),
        );
        for key in keys {
            let (id, direction) = (key.id, key.direction);
            let name = if id == FIRST { "first" } else { "second" };
            let (material, ends) = (key.material, key.ends);
            line(
                text,
                &format!(
                    "[[endpoints.keys]]\nid = {id}\nname = \"{name}\"\ndirection = \"{direction}\"\n{material}\n{ends}"
                ),
            );
        }
        line(
            text,
            &format!("[[endpoints.grants]]\nchannel = \"{channel}\"\nallow = \"{allow}\"\n{ends}"),
        );
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

/// A shared secret, and the line that a plan has of it.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) text: String,
    pub(crate) line: String,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self::of(new_secret().text())
    }

    pub(crate) fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            line: format!("secret = \"{text}\""),
        }
    }
}

/// A pair, its public half as text, and the line that a plan has of it.
pub(crate) struct Pair {
    pub(crate) key: SigningKey,
    pub(crate) public: String,
    pub(crate) line: String,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let key = SigningKey::from_bytes(&new_secret().random());
        let public = verifying_key_to_base64(&key.verifying_key());
        let line = format!("kind = \"ed25519\"\npublic = \"{public}\"");
        Self { key, public, line }
    }
}

/// A node of two shards that follows a control plane with this plan, and the ways to it.
pub(crate) fn served(plan: &Plan, more: &str) -> (World, Process, [Way; 3]) {
    let world = World::of(plan.text(), &["north"]);
    let node = world.start_node_for_all("north", more);
    world.until_all_are_current();
    let ways = world.ways(&node);
    (world, node, ways)
}
