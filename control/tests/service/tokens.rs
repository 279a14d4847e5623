//! Tokens: what each opens, until when, and who may make which.

use std::sync::atomic::Ordering;

use control::diagnosis as codes;
use control::model::{Moment, Noun, Role};
use control::service::{Caller, Refusal, deleting};
use wire::diagnosis::Diagnosis;

use super::{World, caller, change, code, token, world};

#[test]
fn a_token_opens_what_it_says_until_it_expires_or_is_deleted() {
    let world = world();
    let all = Caller::local();
    let first = first_token(&world);
    let never = |_: &str| -> Result<(), Diagnosis> { panic!("one is enough") };
    assert!(!world.service.first_token(never).expect("asked"));
    assert_eq!(
        world.service.caller(&first).expect("good").role,
        Role::Owner
    );
    let mut short = token("short", Role::Operator, Some("a"));
    short.expires = Some(Moment::from_seconds(1_100));
    let (text, _) = world
        .service
        .create_token(&all, short.clone())
        .expect("made");
    let found = world.service.caller(&text).expect("good");
    assert_eq!(
        (found.name.as_str(), found.account.as_deref()),
        ("short", Some("a"))
    );
    let again = world
        .service
        .create_token(&all, short)
        .map(drop)
        .map_err(code);
    assert_eq!(again, Err(codes::ALREADY_THERE));
    world.now.store(1_100, Ordering::Relaxed);
    let refused = world.service.caller(&text).expect_err("expired");
    assert_eq!(refused.code, codes::TOKEN_UNKNOWN);
    assert!(!refused.to_string().contains(text.as_str()));
    change(&world, &all, deleting(Noun::Token, "first-owner", None)).expect("deleted");
    for text in [first.as_str(), "", "fbt_", "Bearer"] {
        let refused = world.service.caller(text).expect_err("unknown");
        assert_eq!(refused.code, codes::TOKEN_UNKNOWN, "{text}");
    }
    let lesser = caller(Role::Owner, None);
    let higher = world
        .service
        .create_token(&caller(Role::Admin, None), token("x", Role::Owner, None));
    assert_eq!(higher.map(drop).map_err(code), Err(codes::ROLE));
    assert!(
        world
            .service
            .create_token(&lesser, token("x", Role::Owner, None))
            .is_ok()
    );
}

#[test]
fn a_token_with_a_malformed_end_or_the_name_of_the_machine_is_not_made() {
    let world = world();
    let all = Caller::local();
    let mut endless = token("x", Role::Viewer, None);
    endless.expires = Some(Moment::new("soon"));
    let made = world.service.create_token(&all, endless);
    assert_eq!(made.map(drop).map_err(code), Err(codes::EXPIRY));
    let named = token("local", Role::Viewer, None);
    let made = world.service.create_token(&all, named);
    assert_eq!(made.map(drop).map_err(code), Err(codes::ALREADY_THERE));
}

#[test]
fn a_token_ends_no_later_than_its_makers_and_not_behind_its_account() {
    let world = world();
    let mut maker = caller(Role::Owner, None);
    maker.expires = Some(2_000);
    for (ends, made) in [(None, false), (Some(2_001), false), (Some(2_000), true)] {
        let mut minted = token("minted", Role::Viewer, None);
        minted.expires = ends.map(Moment::from_seconds);
        let done = world.service.create_token(&maker, minted);
        assert_eq!(done.is_ok(), made, "{ends:?}");
    }
    let all = Caller::local();
    let made = world
        .service
        .create_token(&all, token("of-b", Role::Owner, Some("b")));
    let (text, _) = made.expect("made");
    assert!(world.service.caller(&text).is_ok());
    // Whatever takes the account away, its token opens nothing after it.
    let catalog = world.service.catalog();
    let within = catalog
        .things
        .keys()
        .rev()
        .filter(|(_, name)| name.starts_with("b/"));
    let mut gone: Vec<_> = within
        .map(|(noun, name)| deleting(*noun, name, None))
        .collect();
    gone.push(deleting(Noun::Account, "b", None));
    let done = world.service.edit(&all, "delete", |_, _| Ok(gone));
    done.map(drop).map_err(code).expect("deleted");
    let refused = world
        .service
        .caller(&text)
        .expect_err("its account is gone");
    assert_eq!(refused.code, codes::TOKEN_UNKNOWN);
}

#[test]
fn whether_another_account_has_a_token_of_a_name_is_not_told() {
    let world = world();
    let all = Caller::local();
    world
        .service
        .create_token(&all, token("theirs", Role::Viewer, Some("a")))
        .expect("made");
    let owner = caller(Role::Owner, Some("b"));
    let there = world
        .service
        .show(&owner, Noun::Token, "theirs")
        .expect_err("foreign");
    let none = world
        .service
        .show(&owner, Noun::Token, "none")
        .expect_err("not there");
    assert_eq!((there.code, there.remedy), (none.code, none.remedy));
}

#[test]
fn a_token_that_is_gone_when_its_turn_comes_changes_nothing() {
    let world = world();
    let all = Caller::local();
    let mut thief = token("thief", Role::Owner, None);
    thief.expires = Some(Moment::from_seconds(2_000));
    let made = world.service.create_token(&all, thief.clone());
    let (text, _) = made.expect("made");
    let waiting = world.service.caller(&text).expect("good when it asked");
    world.now.store(2_000, Ordering::Relaxed);
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN, "its time is over");
    world.now.store(1_000, Ordering::Relaxed);
    change(&world, &all, deleting(Noun::Token, "thief", None)).expect("deleted");
    let before = world.service.catalog();
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN);
    // Another one of that name is somebody else.
    world.service.create_token(&all, thief).expect("made anew");
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN);
    assert!(before.get(Noun::Token, "heir").is_none());
}

#[test]
fn the_first_token_opens_nothing_before_it_is_kept_and_another_is_made_when_all_are_gone() {
    let world = world();
    let mut lost = String::new();
    let full = |text: &str| {
        text.clone_into(&mut lost);
        let known = world.service.caller(text).map(drop);
        assert_eq!(known.expect_err("kept first").code, codes::TOKEN_UNKNOWN);
        Err(Diagnosis::new(
            codes::STORE_FAILED,
            "",
            "a full disk",
            "",
            "",
        ))
    };
    let refused = world.service.first_token(full).map_err(code);
    assert_eq!(refused, Err(codes::STORE_FAILED));
    assert!(world.service.caller(&lost).is_err(), "nobody has its text");
    let first = first_token(&world);
    assert!(world.service.caller(&first).is_ok() && first != lost);
    let all = Caller::local();
    change(&world, &all, deleting(Noun::Token, "first-owner", None)).expect("deleted");
    let second = first_token(&world);
    assert!(world.service.caller(&second).is_ok());
    assert!(world.service.caller(&first).is_err());
}

/// The text of the first token, which the store needs.
fn first_token(world: &World) -> String {
    let mut kept = String::new();
    let keep = |text: &str| {
        text.clone_into(&mut kept);
        Ok(())
    };
    assert!(world.service.first_token(keep).expect("made"));
    kept
}

/// Why this token is not made.
pub(super) fn made_as(
    world: &World,
    caller: &Caller,
    name: &str,
    account: Option<&str>,
) -> Refusal {
    let made = (world.service).create_token(caller, token(name, Role::Viewer, account));
    made.map(drop).expect_err("refused")
}
