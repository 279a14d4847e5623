//! What becomes of a store that failed: it is opened again, and what is in it then holds.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use wire::diagnosis::Diagnosis;

use super::limits::Counts;
use super::{Current, Service};
use crate::diagnosis::STORE_FAILED;

impl Service {
    /// What a commit came to that failed: nobody knows before the file is opened again. It may have taken place all the same, and is then
    /// carried on with.
    pub(super) fn after_failure(&self, fault: Diagnosis, tried: u64) -> Result<u64, Diagnosis> {
        if fault.code != STORE_FAILED {
            return Err(fault);
        }
        self.failed.store(true, Ordering::Relaxed);
        let reopened = self.store.reopen().and_then(|()| self.store.load());
        let Ok(found) = reopened else {
            let remedy = format!("{}; the next change tries to open it again", fault.remedy);
            return Err(Diagnosis { remedy, ..fault });
        };
        self.failed.store(false, Ordering::Relaxed);
        match found.version == tried {
            true => Ok(tried),
            false => Err(fault),
        }
    }

    /// Open a store again that failed and could not be opened then, and let hold what it holds.
    pub(super) fn mend(&self) -> Result<(), Diagnosis> {
        if !self.failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.store.reopen()?;
        let catalog = self.store.load()?;
        if catalog.version != self.current().catalog.version {
            let first = |mut found: super::Refusal| found.remove(0).fault;
            let counts = Counts::of_all(&catalog);
            let now = Current::published(catalog, &self.store, &*self.publish).map_err(first)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = now;
            *self.counts() = counts;
            self.tidy().note(None);
        }
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::model::{Account, Environment, Noun, Thing};
    use crate::seal::MasterKey;
    use crate::service::{Caller, Service, Unpublished, setting};
    use crate::store::{Store, failing};

    /// An account with an environment, which brings a hub.
    fn account(name: &str) -> [Thing; 2] {
        let account = Account {
            name: name.to_owned(),
            ..Account::default()
        };
        let environment = Environment {
            name: format!("{name}/e"),
        };
        [Thing::Account(account), Thing::Environment(environment)]
    }

    #[test]
    fn a_write_that_fails_refuses_its_own_change_at_most_and_what_holds_is_what_is_stored() {
        let (mut refused, mut took_place) = (0, 0);
        for (behind, count) in (0..40).flat_map(|behind| [(behind, 1), (behind, 1_000)]) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("store");
            let store = Store::open(&path, Arc::new(MasterKey::new(&[7; 32]))).expect("made");
            let service = Service::start(store, Box::new(Unpublished), Box::new(|| 1_000));
            let service = service.expect("started");
            let local = Caller::local();
            let add = |name: &str| {
                let changes = account(name).map(|thing| setting(thing, Some(0)));
                service.edit(&local, "create", |_, _| Ok(changes.into()))
            };
            add("before").expect("the disk is whole");
            failing::fail(behind, count);
            let tried = add("tried");
            failing::heal();
            add("behind").unwrap_or_else(|found| panic!("{behind} {count}: {found:?}"));
            let held = service.catalog();
            let there = |name: &str| held.get(Noun::Account, name).is_some();
            assert!(there("before") && there("behind"), "{behind} {count}");
            assert!(
                tried.is_err() || there("tried"),
                "{behind} {count}: it was said to be made"
            );
            refused += u32::from(!there("tried"));
            took_place += u32::from(tried.is_err() && there("tried"));
            let stored = service.with_store(Store::load).expect("readable");
            assert_eq!(*held, stored, "{behind} {count}");
            let hubs = service.with_store(Store::hubs).expect("readable");
            let environments = held.model().environments;
            assert_eq!(hubs.len(), environments.len(), "{behind} {count}: hubs");
            let verdict = service.with_store(Store::verify_audit).expect("readable");
            assert_eq!(verdict.faults, [""; 0], "{behind} {count}");
        }
        assert!(refused > 0, "some of them did not take place");
        // Those that did, though the disk said otherwise and did not come back at once, hold too.
        assert!(took_place > 0, "some of them did");
    }
}
