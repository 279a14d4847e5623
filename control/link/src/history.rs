//! What control still has of the way to its newest table: that one, and the deltas that led to it. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::frame::Version;

/// Deltas that are kept for nodes that fall behind; one that lacks more gets a snapshot.
const DELTAS_MAX: usize = 1_024;
/// Bytes of them together.
const DELTAS_BYTES_MAX: usize = 64 << 20;

/// Bytes that are shared.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A table that can be written down whole when a node needs it.
pub trait Snapshot: Send + Sync {
    /// Its bytes. May take a while.
    fn bytes(&self) -> Bytes;
}

/// What makes one table into the next.
#[derive(Clone)]
pub struct Delta {
    /// Of the table it is made for.
    pub base: Version,
    /// Of the table it makes.
    pub becomes: Version,
    /// What it says.
    pub bytes: Bytes,
}

/// The newest table.
#[derive(Clone)]
pub struct Newest {
    /// Its version.
    pub version: Version,
    /// All of it.
    pub snapshot: Arc<dyn Snapshot>,
    /// How it differs from the one before, if that is known.
    pub delta: Option<Delta>,
}

impl std::fmt::Debug for Newest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Newest({})", self.version)
    }
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delta({} to {})", self.base, self.becomes)
    }
}

/// What a node gets next.
pub(crate) enum Next {
    /// It has the newest table, or there is none yet.
    Nothing,
    /// Everything.
    Snapshot(Version, Arc<dyn Snapshot>),
    /// One step.
    Delta(Arc<Delta>),
}

/// The newest table and the way there.
#[derive(Default)]
pub(crate) struct History {
    newest: Option<(Version, Arc<dyn Snapshot>)>,
    /// Each made for what the one before it makes; the last makes the newest.
    deltas: VecDeque<Arc<Delta>>,
    bytes: usize,
}

impl History {
    pub(crate) fn newest(&self) -> Option<Version> {
        self.newest.as_ref().map(|(version, _)| *version)
    }

    /// Whether this is the newest table, or one that a delta still leads on from.
    pub(crate) fn knows(&self, version: Version) -> bool {
        self.newest() == Some(version) || self.deltas.iter().any(|delta| delta.base == version)
    }

    /// There is a new table.
    pub(crate) fn put(&mut self, newest: Newest) {
        let fits =
            |delta: &Delta| Some(delta.base) == self.newest() && delta.becomes == newest.version;
        match newest.delta.filter(fits) {
            Some(delta) => {
                self.bytes += (*delta.bytes).as_ref().len();
                self.deltas.push_back(Arc::new(delta));
            }
            None => {
                self.deltas.clear();
                self.bytes = 0;
            }
        }
        while self.deltas.len() > DELTAS_MAX || self.bytes > DELTAS_BYTES_MAX {
            let gone = self.deltas.pop_front().expect("there are too many");
            self.bytes -= (*gone.bytes).as_ref().len();
        }
        self.newest = Some((newest.version, newest.snapshot));
    }

    /// What someone who has this gets next.
    pub(crate) fn next(&self, has: Option<Version>) -> Next {
        let Some((newest, snapshot)) = &self.newest else {
            return Next::Nothing;
        };
        if has == Some(*newest) {
            return Next::Nothing;
        }
        // Who is behind is not far behind, most often.
        let step = |has| self.deltas.iter().rev().find(|delta| delta.base == has);
        match has.and_then(step) {
            Some(delta) => Next::Delta(Arc::clone(delta)),
            None => Next::Snapshot(*newest, Arc::clone(snapshot)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::numbered as version;

    struct Whole;

    impl Snapshot for Whole {
        fn bytes(&self) -> Bytes {
            Arc::new([0; 4])
        }
    }

    fn newest(epoch: u64, base: Option<u64>) -> Newest {
        Newest {
            version: version(epoch),
            snapshot: Arc::new(Whole),
            delta: base.map(|base| Delta {
                base: version(base),
                becomes: version(epoch),
                bytes: Arc::new([0; 10]),
            }),
        }
    }

    /// What someone with this gets, step by step, until there is nothing more.
    fn way(history: &History, mut has: Option<Version>) -> String {
        let mut steps = String::new();
        loop {
            match history.next(has) {
                Next::Nothing => return steps,
                Next::Snapshot(version, _) => {
                    steps.push_str(&format!("S{} ", version.epoch));
                    has = Some(version);
                }
                Next::Delta(delta) => {
                    steps.push_str(&format!("d{} ", delta.becomes.epoch));
                    has = Some(delta.becomes);
                }
            }
        }
    }

    #[test]
    fn who_has_what_a_delta_was_made_for_gets_deltas_and_anybody_else_everything() {
        let mut history = History::default();
        assert_eq!(way(&history, None), "", "there is nothing yet");
        history.put(newest(3, None));
        history.put(newest(4, Some(3)));
        history.put(newest(5, Some(4)));
        for (has, want) in [
            (None, "S5 "),
            (Some(2), "S5 "),
            (Some(3), "d4 d5 "),
            (Some(4), "d5 "),
            (Some(5), ""),
            (Some(6), "S5 "),
        ] {
            assert_eq!(way(&history, has.map(version)), want, "{has:?}");
        }
        let strange = Version {
            digest: [9; 32],
            ..version(4)
        };
        assert_eq!(
            way(&history, Some(strange)),
            "S5 ",
            "another table of that epoch"
        );
        let past = Version {
            lineage: [2; 16],
            ..version(4)
        };
        assert!(!history.knows(past));
        assert_eq!(
            way(&history, Some(past)),
            "S5 ",
            "the same, of another past"
        );
        // A table without a delta, or with one that does not fit, cuts the way.
        history.put(newest(7, Some(6)));
        assert_eq!(way(&history, Some(version(5))), "S7 ");
        history.put(newest(8, Some(7)));
        assert_eq!(way(&history, Some(version(7))), "d8 ");
    }

    #[test]
    fn only_so_many_deltas_are_kept_and_whoever_lacks_more_gets_everything() {
        let mut history = History::default();
        history.put(newest(1, None));
        for epoch in 2..=(DELTAS_MAX as u64 + 11) {
            history.put(newest(epoch, Some(epoch - 1)));
        }
        assert_eq!(history.deltas.len(), DELTAS_MAX);
        let first = history.deltas[0].base;
        assert!(matches!(history.next(Some(first)), Next::Delta(_)));
        let before = version(first.epoch - 1);
        assert!(matches!(history.next(Some(before)), Next::Snapshot(..)));
    }

    #[test]
    fn deltas_are_kept_within_so_many_bytes_whatever_their_number() {
        let (mut history, great) = (History::default(), Arc::new(vec![0; 5 << 20]));
        history.put(newest(1, None));
        for epoch in 2..100 {
            let mut next = newest(epoch, Some(epoch - 1));
            if let Some(delta) = &mut next.delta {
                delta.bytes = great.clone();
            }
            history.put(next);
            let bytes: usize = history
                .deltas
                .iter()
                .map(|one| (*one.bytes).as_ref().len())
                .sum();
            assert_eq!(bytes, history.bytes);
            assert!(bytes <= DELTAS_BYTES_MAX, "{bytes}");
        }
        assert_eq!(history.deltas.len(), DELTAS_BYTES_MAX / great.len());
        let mut beyond = newest(100, Some(99));
        if let Some(delta) = &mut beyond.delta {
            delta.bytes = Arc::new(vec![0; DELTAS_BYTES_MAX + 1]);
        }
        history.put(beyond);
        assert_eq!((history.deltas.len(), history.bytes), (0, 0));
        assert_eq!(way(&history, Some(version(99))), "S100 ");
    }
}
