//! Tokens of the API: made, found by their text, forgotten.

use wire::diagnosis::Diagnosis;
use zeroize::Zeroizing;

use super::{Caller, Outcome, Refusal, Service, access, not_there, refused, setting};
use crate::diagnosis::{ALREADY_THERE, CODES, EXPIRY, NAME, ROLE, TOKEN_UNKNOWN, UNKNOWN_NAME};
use crate::model::{Moment, NAME_NEEDED, Noun, Role, Thing, Token, is_part};
use crate::store::Catalog;

/// Name of the token that a new store gets.
const FIRST: &str = "first-owner";

impl Service {
    /// Make a token. Its text is returned and not kept.
    ///
    /// # Errors
    /// When the caller may not, or there is one of that name.
    pub fn create_token(
        &self,
        caller: &Caller,
        mut token: Token,
    ) -> Result<(Zeroizing<String>, Outcome), Refusal> {
        let text = token.renew();
        let outcome = self.edit(caller, "token create", |catalog, _| {
            // Whose it would be comes before what is there: that is told to nobody else.
            access::may_see(caller, &Thing::Token(token.clone())).map_err(refused)?;
            check(&token, caller).map_err(refused)?;
            not_there(catalog, Noun::Token, &token.name).map_err(refused)?;
            if let Some(account) = &token.account {
                let known = catalog.get(Noun::Account, account).is_some();
                if !known {
                    let (seen, needed) = (format!("`{account}`"), "a defined account");
                    let what = "a token names an unknown account";
                    let fault = Diagnosis::from_table(CODES, UNKNOWN_NAME, what, seen, needed);
                    return Err(refused(fault));
                }
            }
            Ok(vec![setting(Thing::Token(token), Some(0))])
        })?;
        Ok((text, outcome))
    }

    /// Give a store that has no token its first one, of an owner of everything; whether it needed one. Its text is kept before
    /// the store takes it: a text that opens nothing is replaced, and a token without its text would lock everybody out.
    ///
    /// # Errors
    /// When it cannot be kept, or the store does not take it; then there is no such token.
    pub fn first_token(
        &self,
        keep: impl FnOnce(&str) -> Result<(), Diagnosis>,
    ) -> Result<bool, Refusal> {
        let catalog = self.catalog();
        if catalog.things.from(Noun::Token, "").next().is_some() {
            return Ok(false);
        }
        let mut token = Token {
            name: FIRST.to_owned(),
            role: Role::Owner,
            account: None,
            hash: String::new(),
            expires: None,
        };
        let text = token.renew();
        keep(&text).map_err(refused)?;
        self.edit(&Caller::local(), "token create", |catalog, _| {
            not_there(catalog, Noun::Token, FIRST).map_err(refused)?;
            Ok(vec![setting(Thing::Token(token), Some(0))])
        })?;
        Ok(true)
    }

    /// Whose text this is.
    ///
    /// # Errors
    /// When it is nobody's, or has expired.
    pub fn caller(&self, text: &str) -> Result<Caller, Diagnosis> {
        self.caller_of(&Token::hash_of(text))
    }

    /// Refuse a caller whose token is no more what it was when it asked: others may have changed much while it waited for its turn.
    pub(super) fn still(&self, caller: &Caller) -> Result<(), Diagnosis> {
        let Some(hash) = &caller.hash else {
            return Ok(());
        };
        self.caller_of(hash).map(drop)
    }

    /// The name of the token of this text, also when it is good no more.
    #[must_use]
    pub fn token_name(&self, text: &str) -> Option<String> {
        let catalog = self.catalog();
        let token = token_of(&catalog, &Token::hash_of(text));
        token.map(|token| token.name.clone())
    }

    /// Whose token has this hash.
    fn caller_of(&self, hash: &str) -> Result<Caller, Diagnosis> {
        let refuse = |seen: &str| {
            let (what, needed) = ("the token opens nothing", "a token that is good");
            Diagnosis::from_table(CODES, TOKEN_UNKNOWN, what, seen, needed)
        };
        let catalog = self.catalog();
        let token = token_of(&catalog, hash);
        let token = token.ok_or_else(|| refuse("a token that is not known"))?;
        let account = token.account.as_deref();
        if account.is_some_and(|account| catalog.get(Noun::Account, account).is_none()) {
            return Err(refuse("a token of an account that is not there"));
        }
        if token.is_expired(self.now()) {
            return Err(refuse("a token that has expired"));
        }
        Ok(Caller {
            name: token.name.clone(),
            role: token.role,
            account: token.account.clone(),
            expires: token.expires.as_ref().and_then(Moment::seconds),
            hash: Some(token.hash.clone()),
        })
    }
}

/// The token with this hash.
fn token_of<'a>(catalog: &'a Catalog, hash: &str) -> Option<&'a Token> {
    let tokens = catalog.things.from(Noun::Token, "");
    let mut tokens = tokens.map_while(|(_, stored)| match &*stored.thing {
        Thing::Token(token) => Some(token),
        _ => None,
    });
    tokens.find(|token| token.hash == hash)
}

/// Owners of one account name their tokens `account:name`, so that they never meet with those of others, nor learn of them; nobody else's
/// token has such a name.
fn named(token: &Token, caller: &Caller) -> Result<(), Diagnosis> {
    let (account, own) = match token.name.split_once(':') {
        Some((account, own)) => (Some(account), own),
        None => (None, token.name.as_str()),
    };
    let seen = format!("`{}`", token.name);
    if !is_part(own) {
        let what = "the name of the token is malformed";
        return Err(Diagnosis::from_table(CODES, NAME, what, seen, NAME_NEEDED));
    }
    let its_own = account.is_some() && account == token.account.as_deref();
    if its_own || (account.is_none() && caller.account.is_none()) {
        return Ok(());
    }
    let what = "the name of the token is another's to give";
    let needed = match &token.account {
        Some(account) => format!("`{account}:{own}`"),
        None => "a name without `:`".to_owned(),
    };
    Err(Diagnosis::from_table(CODES, NAME, what, seen, needed))
}

/// A token with a good name that opens no more than its maker's does.
fn check(token: &Token, caller: &Caller) -> Result<(), Diagnosis> {
    named(token, caller)?;
    if token.name == Caller::local().name {
        let (what, needed) = ("the name of the token is taken", "another name");
        let seen = format!("`{}`, which the audit log calls the machine", token.name);
        return Err(Diagnosis::from_table(
            CODES,
            ALREADY_THERE,
            what,
            seen,
            needed,
        ));
    }
    if let Some(seen) = (token.expires.as_ref()).filter(|at| at.seconds().is_none()) {
        let (what, needed) = ("the expiry of the token is malformed", "a date and time");
        let seen = format!("`{}`", seen.text());
        return Err(Diagnosis::from_table(CODES, EXPIRY, what, seen, needed));
    }
    let ends = token.expires.as_ref().and_then(Moment::seconds);
    if let Some(last) = caller
        .expires
        .filter(|last| ends.is_none_or(|ends| ends > *last))
    {
        let what = "a token cannot outlive its maker's";
        let seen = (token.expires.as_ref()).map_or("no end", Moment::text);
        let needed = format!("{} at the latest", Moment::from_seconds(last).text());
        return Err(Diagnosis::from_table(CODES, ROLE, what, seen, needed));
    }
    if token.role > caller.role {
        let what = "a token cannot have a higher role than its maker's";
        let (seen, needed) = (token.role.name(), format!("{} at most", caller.role.name()));
        return Err(Diagnosis::from_table(CODES, ROLE, what, seen, needed));
    }
    Ok(())
}
