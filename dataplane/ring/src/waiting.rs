//! Connections that wait for receive buffers: those that hold none first, each in turn. Who sends without end has buffers lent out
//! all the time; who says a word now and then is not to wait behind a thousand of them. Knows names and nothing else.

use std::collections::VecDeque;

use crate::token::Key;

/// Each connection at most once, and none that is gone.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Have no buffer lent out.
    without: VecDeque<Key>,
    /// Have some.
    with: VecDeque<Key>,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.without.len() + self.with.len()
    }

    /// Stand in line behind those that have as much.
    pub(crate) fn push(&mut self, key: Key, has_buffers: bool) {
        match has_buffers {
            true => self.with.push_back(key),
            false => self.without.push_back(key),
        }
    }

    /// The one that is next.
    pub(crate) fn pop(&mut self) -> Option<Key> {
        self.without.pop_front().or_else(|| self.with.pop_front())
    }

    /// The last buffer of one that waits is back. It is most often among those that wait longest.
    pub(crate) fn has_none_now(&mut self, key: Key) {
        if let Some(at) = self.with.iter().position(|waiting| *waiting == key) {
            self.with.remove(at);
            self.without.push_back(key);
        }
    }

    /// One is gone.
    pub(crate) fn remove(&mut self, key: Key) {
        self.without.retain(|waiting| *waiting != key);
        self.with.retain(|waiting| *waiting != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_buffers_come_first_and_all_come_in_turn() {
        let mut waiting = Waiting::default();
        for (key, has_buffers) in [(1, true), (2, true), (3, false), (4, true), (5, false)] {
            waiting.push(key, has_buffers);
        }
        waiting.has_none_now(2);
        waiting.has_none_now(3);
        waiting.remove(5);
        assert_eq!(waiting.len(), 4);
        let order: Vec<Key> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(order, [3, 2, 1, 4]);
    }
}
