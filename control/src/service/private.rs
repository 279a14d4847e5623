//! What a refusal tells somebody of one account: nothing of others. Whatever is compiled, checked by nodes and stored is of all accounts, and so are
//! the faults that come of it.

use wire::diagnosis::Diagnosis;

use super::{Caller, Refusal};
use crate::compile::Found;
use crate::diagnosis::ID_COLLISION;

/// From here on codes are those of nodes.
const OF_NODES: u16 = 3_000;

/// The refusal as this caller may read it.
pub(super) fn told(caller: &Caller, refusal: Refusal) -> Refusal {
    let Some(account) = &caller.account else {
        return refusal;
    };
    let told = refusal.into_iter().map(|found| hide(account, found));
    told.collect()
}

fn hide(account: &str, found: Found) -> Found {
    let Found { pointer, fault } = found;
    let mut said = vec![&fault.what];
    // What was sent is said again there, except by those who say what is there.
    if fault.code >= OF_NODES || fault.code == ID_COLLISION {
        said.extend([&fault.seen, &fault.needed, &fault.remedy]);
    }
    if !said.iter().any(|text| names_others(account, text)) {
        return Found { pointer, fault };
    }
    let fault = Diagnosis::new(
        fault.code,
        "it does not go together with what is defined elsewhere",
        "something that this token does not reach",
        "a change that leaves it alone",
        "choose another name, or ask somebody with a token for all accounts",
    );
    let pointer = String::new();
    Found { pointer, fault }
}

/// Whether a text has a name, or a path, that is not of this account.
fn names_others(account: &str, text: &str) -> bool {
    let of_name = |each: char| each.is_ascii_alphanumeric() || "-_./".contains(each);
    let mut words = text.split(|each: char| !of_name(each));
    words.any(|word| {
        let first = word.split_once('/').map(|(first, _)| first);
        first.is_some_and(|first| first != account)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::service::refused;

    #[test]
    fn what_a_node_says_of_another_account_is_not_told() {
        let caller = |account: Option<&str>| Caller {
            name: "b:ops".to_owned(),
            role: Role::Owner,
            account: account.map(str::to_owned),
            expires: None,
            hash: None,
        };
        for (what, seen, hidden) in [
            ("hub b/e/x cannot be made", "a full disk", false),
            ("hub a/e/x cannot be made", "a full disk", true),
            ("a hub cannot be made", "`bb/e/x` in its place", true),
            (
                "/var/lib/forebay/data cannot be written",
                "a full disk",
                true,
            ),
        ] {
            let fault = Diagnosis::new(3_001, what, seen, "room", "make room");
            let whole = told(&caller(None), refused(fault.clone()));
            assert_eq!(whole[0].fault, fault);
            let own = told(&caller(Some("b")), refused(fault.clone()));
            assert_eq!(own[0].fault != fault, hidden, "{what} {seen}");
            assert_eq!(own[0].fault.code, fault.code);
        }
    }
}
