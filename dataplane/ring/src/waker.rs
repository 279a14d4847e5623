//! Waking a ring's owner from another thread.
/// Wakes the owner of a ring out of `Ring::wait` or out of awaiting `Ring::eventfd`.
#[derive(Debug, Clone)]
pub struct Waker;
impl Waker {
    /// Wake the owner. Wakes before the owner looks again are folded into one. One or two system calls.
    pub fn wake(&self) {
        unimplemented!()
    }
}
