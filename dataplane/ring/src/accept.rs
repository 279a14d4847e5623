//! Accepting: one operation per listener, multishot where the kernel has it.
//!
//! Errors come in three classes. A connection lost on the way is nothing: go on. Want of descriptors
//! or memory passes: pause, and go on when a connection closes. Anything else ends the listener.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{cqueue, opcode, types};

use crate::error::RingError;
use crate::event::{Event, ListenerId};
use crate::kernel::errno;
use crate::limits::LISTENERS_MAX;
use crate::ring::Ring;
use crate::socket;
use crate::token::{self, Key, Kind};

/// A listening socket and what is in flight for it.
pub(crate) struct Listener {
    socket: TcpListener,
    accept: Accept,
    timer: bool,
    /// Cancellations in flight.
    cancels: u32,
    stopping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    /// To be started.
    Idle,
    /// An operation is in flight.
    Armed,
    /// Pausing for want of descriptors or memory.
    Paused,
    /// Failed for good.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Passing,
    Exhausted,
    Fatal,
}

/// Classes of accept(2)'s errors. Network errors pending on the new socket count as lost on the way.
fn class(errno: i32) -> Class {
    match errno {
        libc::EINTR | libc::EAGAIN | libc::ECONNABORTED | libc::EPROTO | libc::EPERM => {
            Class::Passing
        }
        libc::ENETDOWN | libc::ENETUNREACH | libc::EHOSTDOWN | libc::EHOSTUNREACH => Class::Passing,
        libc::ENONET | libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::ETIMEDOUT => Class::Passing,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Class::Exhausted,
        _ => Class::Fatal,
    }
}

impl Listener {
    /// Operations whose last completion has not been taken.
    pub(crate) fn operations(&self) -> usize {
        usize::from(self.accept == Accept::Armed) + usize::from(self.timer) + self.cancels as usize
    }
}

impl Ring {
    /// Accept connections on this listener.
    ///
    /// # Errors
    /// `ListenersFull`; `Descriptor` when the socket cannot be used. The socket is closed then.
    pub fn listen(&mut self, listener: TcpListener) -> Result<ListenerId, RingError> {
        if self.listeners.is_full() {
            return Err(RingError::ListenersFull { max: LISTENERS_MAX });
        }
        let blocking = listener.set_nonblocking(false);
        blocking.map_err(|e| RingError::Descriptor {
            call: "fcntl",
            errno: errno(&e),
        })?;
        let key = self.listeners.insert(Listener {
            socket: listener,
            accept: Accept::Idle,
            timer: false,
            cancels: 0,
            stopping: false,
        });
        self.start_accept(key);
        Ok(ListenerId(key))
    }

    /// Stop accepting and close the listener. Connections already announced stay. Does nothing when the
    /// listener is gone.
    pub fn stop_listening(&mut self, listener: ListenerId) {
        let key = listener.0;
        let Some(found) = self.listeners.get_mut(key).filter(|found| !found.stopping) else {
            return;
        };
        found.stopping = true;
        let in_flight = [
            (Kind::Accept, found.accept == Accept::Armed),
            (Kind::AcceptTimer, found.timer),
        ];
        for (kind, _) in in_flight.into_iter().filter(|(_, flies)| *flies) {
            found.cancels += 1;
            self.counters.cancels += 1;
            let entry = opcode::AsyncCancel::new(token::pack(kind, key)).build();
            let entry = entry.user_data(token::pack(Kind::AcceptCancel, key));
            // SAFETY: names no descriptor and no memory.
            unsafe { self.kernel.push(entry, &mut self.counters) };
        }
        self.remove_stopped(key);
    }

    fn start_accept(&mut self, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        if listener.stopping || !matches!(listener.accept, Accept::Idle | Accept::Paused) {
            return;
        }
        listener.accept = Accept::Armed;
        let fd = types::Fd(listener.socket.as_raw_fd());
        let entry = if self.features.multishot_accept {
            opcode::AcceptMulti::new(fd)
                .flags(libc::SOCK_CLOEXEC)
                .build()
        } else {
            let (address, bytes) = (std::ptr::null_mut(), std::ptr::null_mut());
            opcode::Accept::new(fd, address, bytes)
                .flags(libc::SOCK_CLOEXEC)
                .build()
        };
        let entry = entry.user_data(token::pack(Kind::Accept, key));
        // SAFETY: the socket belongs to the listener, which stays in its slot until its last completion;
        // no memory is named.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// An accept yielded a connection, or ended.
    pub(crate) fn on_accept(&mut self, key: Key, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let listener = self
            .listeners
            .get_mut(key)
            .expect("a slot waits for its completions");
        let stopping = listener.stopping;
        if !cqueue::more(entry.flags()) {
            listener.accept = Accept::Idle;
        }
        if entry.result() >= 0 {
            // SAFETY: the kernel just gave this descriptor and nothing else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(entry.result()) };
            if !stopping {
                self.on_accepted(key, TcpStream::from(fd), events);
            }
        } else if !stopping {
            self.on_accept_error(key, -entry.result(), events);
        }
        self.start_idle_accept(key);
        self.remove_stopped(key);
    }

    fn on_accepted(&mut self, key: Key, stream: TcpStream, events: &mut Vec<Event>) {
        if self.connections.is_full() {
            self.counters.accepts_refused += 1;
            self.counters.socket_calls += 1;
            return;
        }
        self.counters.socket_calls += 2;
        let Ok(peer) = socket::prepare(&stream) else {
            self.counters.accepts_vanished += 1;
            return;
        };
        self.counters.accepted += 1;
        let connection = self.admit(stream);
        events.push(Event::Accepted {
            listener: ListenerId(key),
            connection,
            peer,
        });
    }

    fn on_accept_error(&mut self, key: Key, errno: i32, events: &mut Vec<Event>) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        match class(errno) {
            Class::Passing => return,
            Class::Exhausted => listener.accept = Accept::Paused,
            Class::Fatal => listener.accept = Accept::Dead,
        }
        self.counters.accepts_failed += 1;
        events.push(Event::AcceptFailed {
            listener: ListenerId(key),
            errno,
        });
        if listener.accept == Accept::Paused && !listener.timer {
            listener.timer = true;
            let entry = opcode::Timeout::new(&raw const self.clocks.accept_retry).build();
            let entry = entry.user_data(token::pack(Kind::AcceptTimer, key));
            // SAFETY: names no descriptor; the time is boxed and lives as long as the ring.
            unsafe { self.kernel.push(entry, &mut self.counters) };
        }
    }

    fn start_idle_accept(&mut self, key: Key) {
        if self
            .listeners
            .get(key)
            .is_some_and(|listener| listener.accept == Accept::Idle)
        {
            self.start_accept(key);
        }
    }

    /// A connection closed, so there is a descriptor again.
    pub(crate) fn retry_accepts(&mut self) {
        while let Some(key) = self.paused_listener() {
            self.start_accept(key);
        }
    }

    fn paused_listener(&self) -> Option<Key> {
        let paused = |listener: &Listener| listener.accept == Accept::Paused && !listener.stopping;
        self.listeners
            .iter()
            .find_map(|(key, listener)| paused(listener).then_some(key))
    }

    pub(crate) fn on_accept_timer(&mut self, key: Key) {
        let listener = self
            .listeners
            .get_mut(key)
            .expect("a slot waits for its completions");
        listener.timer = false;
        if listener.accept == Accept::Paused {
            self.start_accept(key);
        }
        self.remove_stopped(key);
    }

    pub(crate) fn on_accept_cancel(&mut self, key: Key) {
        let listener = self
            .listeners
            .get_mut(key)
            .expect("a slot waits for its completions");
        listener.cancels -= 1;
        self.remove_stopped(key);
    }

    fn remove_stopped(&mut self, key: Key) {
        let done = |listener: &&Listener| listener.stopping && listener.operations() == 0;
        if self.listeners.get(key).filter(done).is_some() {
            self.listeners.remove(key);
        }
    }

    /// Stop every listener, for dropping the ring.
    pub(crate) fn stop_all(&mut self) {
        let keys: Vec<Key> = self.listeners.iter().map(|(key, _)| key).collect();
        keys.into_iter()
            .for_each(|key| self.stop_listening(ListenerId(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_fall_into_the_class_that_fits_their_remedy() {
        for (errno, want) in [
            (libc::ECONNABORTED, Class::Passing),
            (libc::EINTR, Class::Passing),
            (libc::EPERM, Class::Passing),
            (libc::EHOSTUNREACH, Class::Passing),
            (libc::EMFILE, Class::Exhausted),
            (libc::ENFILE, Class::Exhausted),
            (libc::ENOBUFS, Class::Exhausted),
            (libc::ENOMEM, Class::Exhausted),
            (libc::EBADF, Class::Fatal),
            (libc::EINVAL, Class::Fatal),
            (libc::ENOTSOCK, Class::Fatal),
        ] {
            assert_eq!(class(errno), want, "errno {errno}");
        }
    }
}
