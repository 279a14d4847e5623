//! Tables written down whole, each once for all nodes that need everything at the same time. A great table takes as much memory again.

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use crate::diagnosis::LINK_LOST;
use crate::frame::Version;
use crate::history::{Bytes, Snapshot};
use crate::pipe::Ended;

type There = Weak<dyn AsRef<[u8]> + Send + Sync>;

/// What was written down last, as long as somebody sends it.
#[derive(Default)]
pub(crate) struct Written(Mutex<Option<(Version, There)>>);

impl Written {
    /// This table as bytes, or one of before that is written down already and is `still_good`: what changed since then follows.
    pub(crate) async fn bytes(
        &self,
        version: Version,
        snapshot: Arc<dyn Snapshot>,
        still_good: impl Fn(Version) -> bool,
    ) -> Result<(Version, Bytes), Ended> {
        let mut last = self.0.lock().await;
        if let Some((written, bytes)) = &*last
            && still_good(*written)
            && let Some(bytes) = bytes.upgrade()
        {
            return Ok((*written, bytes));
        }
        // It takes a moment, which other nodes need not wait for.
        let made = tokio::task::spawn_blocking(move || snapshot.bytes()).await;
        let made = made.map_err(|error| Ended::new(LINK_LOST, error.to_string()))?;
        *last = Some((version, Arc::downgrade(&made)));
        Ok((version, made))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tests::numbered as version;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Snapshot for Counting {
        fn bytes(&self) -> Bytes {
            let made = self.0.fetch_add(1, Ordering::Relaxed);
            Arc::new(vec![made as u8])
        }
    }

    #[test]
    fn a_table_is_written_down_once_for_all_who_need_it_and_goes_with_the_last_of_them() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            let (written, counting) = (Written::default(), Arc::new(Counting::default()));
            let ask =
                |epoch, good: bool| written.bytes(version(epoch), counting.clone(), move |_| good);
            let (_, first) = ask(1, true).await.expect("made");
            let (has, second) = ask(1, true).await.expect("there");
            assert!(Arc::ptr_eq(&first, &second) && has == version(1));
            let (has, third) = ask(2, true).await.expect("one of before");
            assert!(Arc::ptr_eq(&first, &third) && has == version(1));
            assert_eq!(counting.0.load(Ordering::Relaxed), 1);
            let (has, _) = ask(3, false).await.expect("no way leads on from it");
            assert_eq!(has, version(3));
            drop((first, second, third));
            let (has, _) = ask(4, true).await.expect("nobody has it any more");
            assert_eq!((has, counting.0.load(Ordering::Relaxed)), (version(4), 3));
        });
    }
}
