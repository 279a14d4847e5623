//! The secrets that a handshake agrees on, caught where rustls tells them: in a call that asks for them, on its own thread, and nowhere else.

use std::cell::RefCell;

use rustls::KeyLog;
use rustls::crypto::tls13::OkmBlock;

const OF_CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const OF_SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

thread_local! {
    static CAUGHT: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// What was told of one handshake so far.
#[derive(Default)]
pub(crate) struct Caught {
    /// What the client's first keys are made from.
    pub(crate) client: Option<OkmBlock>,
    /// What the server's are.
    pub(crate) server: Option<OkmBlock>,
}

/// Do something that may agree on secrets.
pub(crate) fn catching<T>(caught: &mut Caught, work: impl FnOnce() -> T) -> T {
    CAUGHT.replace(Some(std::mem::take(caught)));
    let done = work();
    *caught = CAUGHT.take().unwrap_or_default();
    done
}

/// Where rustls tells them.
#[derive(Debug)]
pub(crate) struct Catch;

impl KeyLog for Catch {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if secret.len() > OkmBlock::MAX_LEN {
            return;
        }
        CAUGHT.with_borrow_mut(|caught| match (caught, label) {
            (Some(caught), OF_CLIENT) => caught.client = Some(OkmBlock::new(secret)),
            (Some(caught), OF_SERVER) => caught.server = Some(OkmBlock::new(secret)),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        [OF_CLIENT, OF_SERVER].contains(&label) && CAUGHT.with_borrow(Option::is_some)
    }
}
