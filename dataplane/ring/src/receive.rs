//! Receiving: one operation per connection, multishot where the kernel has it, into provided buffers.
//! Running out of buffers is backpressure: the connection waits its turn until leases return.

use io_uring::{cqueue, opcode, types};

use crate::connection::{Connection, Phase, Receive};
use crate::event::{ConnectionId, Event};
use crate::kernel::BUFFER_GROUP;
use crate::ring::Ring;
use crate::socket;
use crate::token::{self, Key, Kind};

/// Buffers that a connection may have lent out however few are left.
const LEASES_ALWAYS: u32 = 2;

impl Ring {
    /// Start receiving, or queue for buffers when there are none.
    pub(crate) fn start_receive(&mut self, key: Key) {
        let leases_max = self.leases_max();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.receive != Receive::Idle || !connection.may_receive() {
            return;
        }
        if connection.is_open() && connection.leases >= leases_max {
            connection.receive = Receive::Held;
            self.counters.receives_held += 1;
            return;
        }
        if self.buffers.free() == 0 {
            connection.receive = Receive::Waiting;
            self.waiting.push(key, connection.leases > 0);
            self.out_of_buffers = true;
            return;
        }
        connection.receive = Receive::Armed;
        self.counters.receive_shots += 1;
        let fd = types::Fd(connection.descriptor());
        let entry = if self.features.multishot_receive {
            opcode::RecvMulti::new(fd, BUFFER_GROUP).build()
        } else {
            let select = io_uring::squeue::Flags::BUFFER_SELECT;
            let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(BUFFER_GROUP);
            entry.build().flags(select)
        };
        let entry = entry.user_data(token::pack(Kind::Receive, key));
        // SAFETY: the socket belongs to the connection, which stays in its slot until its last
        // completion; the memory is the arena's, which lives until nothing is in flight.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// Start as many waiting receives as there are buffers, those that hold none first. One that is ending, or holds too many
    /// buffers, takes none from those behind it.
    pub(crate) fn start_waiting(&mut self) {
        let mut buffers = self.buffers.free();
        while buffers > 0 {
            let Some(key) = self.waiting.pop() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.receive = Receive::Idle;
                self.start_receive(key);
                let armed = |found: &Connection| found.receive == Receive::Armed;
                buffers -= usize::from(self.connections.get(key).is_some_and(armed));
            }
        }
    }

    /// A receive yielded a buffer, or ended.
    pub(crate) fn on_receive(&mut self, key: Key, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("a slot waits for its completions");
        let ended = !cqueue::more(entry.flags());
        if ended {
            connection.receive = Receive::Idle;
        }
        let buffer = cqueue::buffer_select(entry.flags());
        match (entry.result(), buffer) {
            (1.., Some(buffer)) => self.on_bytes(key, buffer, entry.result() as u32, events),
            (bytes, Some(buffer)) => {
                self.buffers.pass_back(buffer);
                self.on_end(key, bytes, events);
            }
            (bytes, None) => self.on_end(key, bytes, events),
        }
        if ended {
            self.restart_receive(key);
        }
    }

    fn on_bytes(&mut self, key: Key, buffer: u16, bytes: u32, events: &mut Vec<Event>) {
        let told = self
            .connections
            .get(key)
            .is_some_and(|found| found.may_tell());
        if !told {
            self.counters.discarded_bytes += u64::from(bytes);
            return self.buffers.pass_back(buffer);
        }
        self.counters.received += 1;
        self.counters.received_bytes += u64::from(bytes);
        let lease = self.buffers.lend(buffer, bytes, key);
        self.count_lease(key);
        events.push(Event::Received {
            connection: ConnectionId(key),
            lease,
        });
    }

    /// The receive ended with `result`: 0 for the end of the stream, else an error number negated. The end of
    /// a connection that is leaving is told by the ring that adopts it: the kernel tells it again there.
    fn on_end(&mut self, key: Key, result: i32, events: &mut Vec<Event>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match -result {
            0 => {
                connection.receive = Receive::Ended;
                if connection.is_open() {
                    events.push(Event::Finished {
                        connection: ConnectionId(key),
                    });
                }
                self.touch(key);
            }
            libc::ENOBUFS => {
                connection.receive = Receive::Waiting;
                self.waiting.push(key, connection.leases > 0);
                self.out_of_buffers |= !self.buffers.missed();
                self.counters.enobufs += 1;
            }
            libc::ECANCELED => {}
            errno if socket::is_passing(errno) => {}
            errno => self.fail(key, errno),
        }
    }

    /// How many buffers one connection may have lent out now: a quarter of what is left to all others, so that those which send
    /// without end hardly ever take the last, and a few in any case.
    fn leases_max(&self) -> u32 {
        let left = u32::try_from(self.buffers.free()).unwrap_or(u32::MAX);
        u32::from(self.limits.leases_max).min((left / 4).max(LEASES_ALWAYS))
    }

    /// One more buffer of this connection is lent out. With too many of them its receive is stopped.
    fn count_lease(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.leases += 1;
        }
        self.hold(key);
    }

    /// Stop the receive of a connection that has too many buffers lent out, if it goes on by itself.
    fn hold(&mut self, key: Key) {
        let leases_max = self.leases_max();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let full = connection.is_open() && connection.leases >= leases_max;
        if full {
            self.stop_receive(key);
        }
    }

    /// Ask the kernel to end the receive in flight, if there is one and it was not asked yet. It ends with
    /// a completion of its own; what it received until then comes before.
    pub(crate) fn stop_receive(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.receive != Receive::Armed || connection.holding {
            return;
        }
        connection.holding = true;
        self.counters.cancels += 1;
        let entry = opcode::AsyncCancel::new(token::pack(Kind::Receive, key)).build();
        let entry = entry.user_data(token::pack(Kind::ReceiveCancel, key));
        // SAFETY: names no descriptor and no memory.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    /// The request to stop a receive was answered. One that was just at work was not found, goes on, and is asked
    /// again; the end of one that was found is on its way.
    pub(crate) fn on_receive_cancel(&mut self, key: Key, entry: &cqueue::Entry) {
        let connection = self
            .connections
            .get_mut(key)
            .expect("a slot waits for its completions");
        connection.holding = false;
        match connection.phase {
            _ if entry.result() >= 0 => {}
            Phase::Leaving => self.stop_receive(key),
            _ => self.hold(key),
        }
        self.touch(key);
    }

    /// A buffer of this connection is back.
    pub(crate) fn count_release(&mut self, key: Key) {
        let enough = self.leases_max() / 2;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.leases -= 1;
        if connection.leases == 0 && connection.receive == Receive::Waiting {
            self.waiting.has_none_now(key);
        } else if connection.leases <= enough {
            self.resume_held(key);
        }
    }

    /// Receive again if too many lent buffers stopped it.
    pub(crate) fn resume_held(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.receive == Receive::Held
        {
            connection.receive = Receive::Idle;
            self.start_receive(key);
        }
    }

    fn restart_receive(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if connection.may_receive() {
            self.counters.receive_shots_ended += 1;
            self.start_receive(key);
        } else {
            self.touch(key);
        }
    }
}
