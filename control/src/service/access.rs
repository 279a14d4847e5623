//! Who may do what: a role, within one account or everywhere.
//!
//! What lies outside the caller's account is refused by its name alone, so that nobody learns whether it is there.

use wire::diagnosis::Diagnosis;

use crate::diagnosis::{CODES, ROLE, SCOPE};
use crate::model::{Noun, Role, Thing, account_of};
use crate::store::{Catalog, Change};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name for the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// In which account; everywhere if none is named.
    pub account: Option<String>,
    /// When its token ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// Hash of its token, if it has one: it may do nothing any more when that is gone.
    pub hash: Option<String>,
}

impl Caller {
    /// Whoever has the machine and the master key: may do everything.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: "local".to_owned(),
            role: Role::Owner,
            account: None,
            expires: None,
            hash: None,
        }
    }

    /// Whether the thing of this name is within the caller's account.
    #[must_use]
    pub fn reaches(&self, noun: Noun, name: &str) -> bool {
        let Some(account) = &self.account else {
            return true;
        };
        match noun {
            Noun::Settings | Noun::Node => false,
            // A token's account is looked at, not its name.
            Noun::Token => true,
            _ => account_of(name) == account.as_str(),
        }
    }
}

/// Refuse a caller without this role.
///
/// # Errors
/// When the caller's role is a lesser one.
pub fn may(caller: &Caller, role: Role, action: &str) -> Result<(), Diagnosis> {
    if caller.role >= role {
        return Ok(());
    }
    Err(Diagnosis::from_table(
        CODES,
        ROLE,
        format!("token `{}` may not {action}", caller.name),
        format!("role {}", caller.role.name()),
        format!("role {} or more", role.name()),
    ))
}

/// Refuse a caller who may not look at what has this name.
///
/// # Errors
/// When the role is too low, or the name is outside the caller's account.
pub fn may_look(caller: &Caller, noun: Noun, name: &str, role: Role) -> Result<(), Diagnosis> {
    may(caller, role, "look")?;
    match caller.reaches(noun, name) {
        true => Ok(()),
        false => Err(outside(caller, noun, name)),
    }
}

/// Refuse a caller who may not see this thing: tokens of other accounts, or tokens at all.
///
/// # Errors
/// As said.
pub fn may_see(caller: &Caller, thing: &Thing) -> Result<(), Diagnosis> {
    let Thing::Token(token) = thing else {
        return may_look(caller, thing.noun(), thing.name(), Role::Viewer);
    };
    may(caller, Role::Owner, "look at tokens")?;
    match &caller.account {
        Some(account) if token.account.as_ref() != Some(account) => {
            Err(outside(caller, Noun::Token, &token.name))
        }
        _ => Ok(()),
    }
}

/// Refuse a caller who may not make this change.
pub(super) fn may_change(
    caller: &Caller,
    change: &Change,
    before: &Catalog,
    action: &str,
) -> Result<(), Diagnosis> {
    let (noun, name) = (change.noun, change.name.as_str());
    let old = before.get(noun, name).map(|stored| &*stored.thing);
    let role = needed(old, change.after.as_ref(), noun);
    may(caller, role, action)?;
    if !caller.reaches(noun, name) {
        return Err(outside(caller, noun, name));
    }
    for thing in old.iter().copied().chain(&change.after) {
        may_see(caller, thing)?;
    }
    // What an account may use is said by those who see all accounts, and so is who they are.
    if noun == Noun::Account && caller.account.is_some() {
        return Err(outside(caller, noun, name));
    }
    Ok(())
}

/// The least role for a change.
fn needed(old: Option<&Thing>, new: Option<&Thing>, noun: Noun) -> Role {
    match (noun, old, new) {
        (Noun::Settings | Noun::Account | Noun::Token | Noun::Node, ..) => Role::Owner,
        (Noun::Endpoint, Some(Thing::Endpoint(old)), Some(Thing::Endpoint(new))) => {
            // An operator changes keys and switches on and off, nothing else.
            let mut like = (**new).clone();
            like.enabled = old.enabled;
            like.keys.clone_from(&old.keys);
            match like == **old {
                true => Role::Operator,
                false => Role::Admin,
            }
        }
        _ => Role::Admin,
    }
}

fn outside(caller: &Caller, noun: Noun, name: &str) -> Diagnosis {
    let account = caller.account.as_deref().unwrap_or_default();
    Diagnosis::from_table(
        CODES,
        SCOPE,
        format!("token `{}` does not reach this {noun}", caller.name),
        format!("`{name}`"),
        format!("something of account `{account}`"),
    )
}
