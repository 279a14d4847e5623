//! What has happened since the last turn: events of the ring are sorted for the next one, connections that are done with are closed.

use std::time::Instant;

use ring::Event;
use shard::{ConnectionId, Opened, Sent};

use super::{Batch, Loop};
use crate::accept::quic::LaneOpened;
use crate::between::Between;
use crate::bounds::ring_fault;
use crate::diagnosis::{Diagnosis, RANDOM_FAILED, diagnose};
use crate::log::Level;

impl Loop {
    /// Take what the ring and the files have finished. Whether there is anything to work on. What the last turn asked the ring for
    /// leaves with the sleep, in the same system call, unless there is work that must not sleep.
    pub(super) fn gather(&mut self) -> Result<bool, Diagnosis> {
        let events = &mut self.batch.events;
        if events.is_empty() {
            let taken =
                match self.output.more || self.batch.fair.is_holding() || self.tunnels.waits() {
                    true => self.ring.poll(events),
                    false => self.ring.take(events),
                };
            taken.map_err(|error| ring_fault(&error))?;
        }
        if let Some(quic) = &mut self.quic {
            quic.pass_time(Instant::now(), &self.shard);
        }
        self.close_finished();
        self.sort()?;
        let lanes = self.gather_lanes()?;
        let heard = self.between.as_mut().is_some_and(Between::receive);
        self.files.take(&mut self.batch.storage);
        let batch = &self.batch;
        Ok(heard
            || lanes
            || self.tunnels.waits()
            || !(batch.opened.is_empty()
                && batch.leases.is_empty()
                && !batch.fair.is_holding()
                && batch.sent.is_empty()
                && batch.closed.is_empty()
                && batch.storage.is_empty()
                && batch.table.is_none()
                && batch.hubs.is_empty()
                && batch.serve.is_none()))
    }

    /// Close connections whose peer will send no more and has its answers.
    fn close_finished(&mut self) {
        if self.batch.finishing.next_at().is_none() {
            return;
        }
        let now = Instant::now();
        loop {
            let Batch {
                fair, finishing, ..
            } = &mut self.batch;
            let owed = |connection: ring::ConnectionId| {
                let connection = ConnectionId(connection.0);
                self.shard.owes(connection) || fair.waiting().any(|waits| waits == connection)
            };
            let Some(connection) = finishing.next_to_close(now, owed) else {
                return;
            };
            self.close(ConnectionId(connection.0));
        }
    }

    /// Close a connection after what was sent to it has left.
    fn close(&mut self, connection: ConnectionId) {
        match &mut self.quic {
            Some(quic) if quic.owns(connection) => quic.close_heard(Instant::now(), connection),
            _ => self.ring.close(ring::ConnectionId(connection.0)),
        }
    }

    /// What became of lanes, and what those have to say that the shard wants to hear. Whether there is anything.
    fn gather_lanes(&mut self) -> Result<bool, Diagnosis> {
        let Some(quic) = &mut self.quic else {
            return Ok(false);
        };
        let (now, batch) = (Instant::now(), &mut self.batch);
        let any = quic.gather(now, &self.shard);
        let (opened, random, tunnels) = (&mut batch.opened, &mut self.random, &mut self.tunnels);
        let open = |lane: LaneOpened, tunnel| {
            opened.push(Opened {
                connection: lane.id,
                peer: lane.peer,
                random: random.piece()?,
                handed_over: false,
            });
            tunnels.stand(tunnel);
            Ok(())
        };
        let finishing = &mut batch.finishing;
        let finished = |id: ConnectionId| {
            finishing.begin(now, ring::ConnectionId(id.0));
        };
        let (sent, closed) = (&mut batch.sent, &mut batch.closed);
        quic.tell(open, sent, finished, closed, &mut self.ring)?;
        Ok(any)
    }

    /// Sort events by kind, up to one that gives a slot of this batch to a new connection.
    fn sort(&mut self) -> Result<(), Diagnosis> {
        let batch = &mut self.batch;
        let cut = cut_before_reuse(&batch.events);
        batch.cut_short += u64::from(cut < batch.events.len());
        for event in batch.events.drain(..cut) {
            match event {
                Event::Accepted {
                    listener,
                    connection,
                    peer,
                } => {
                    if Some(listener) == self.tunnel_listener {
                        let begun = self.tunnels.begin(connection);
                        begun.map_err(|error| no_tunnel(&error))?;
                    }
                    batch.opened.push(Opened {
                        connection: ConnectionId(connection.0),
                        peer,
                        random: self.random.piece()?,
                        handed_over: false,
                    });
                }
                Event::Received { connection, lease }
                    if let Some(between) = &mut self.between
                        && between.goes(connection) =>
                {
                    let bytes = self.ring.bytes(&lease);
                    if !between.take_along(connection, bytes, &mut self.tunnels) {
                        self.ring.close(connection);
                    }
                    self.ring.release(lease);
                }
                Event::Received { connection, lease } => {
                    match self.tunnels.keep(connection, self.ring.bytes(&lease)) {
                        None => batch.leases.push((ConnectionId(connection.0), lease)),
                        Some(good) => {
                            if !good {
                                self.ring.close(connection);
                            }
                            self.ring.release(lease);
                        }
                    }
                }
                Event::Sent { connection, bytes } => batch.sent.push(Sent {
                    connection: ConnectionId(connection.0),
                    bytes: self.tunnels.sent(connection, bytes),
                }),
                Event::Finished { connection } => {
                    batch.finishing.begin(Instant::now(), connection);
                }
                Event::Closed { connection, .. } => {
                    drop(self.tunnels.take(connection));
                    // The shard has forgotten one that was to go.
                    let gone = |between: &mut Between| between.gone(connection);
                    if self.between.as_mut().and_then(gone).is_none() {
                        batch.closed.push(ConnectionId(connection.0));
                    }
                }
                Event::Detached { connection, socket } => {
                    let between = self.between.as_mut();
                    let between =
                        between.expect("a connection goes only where there is another shard");
                    between.detached(connection, socket, self.tunnels.take(connection));
                }
                Event::Synced { token, result } => self.files.synced(token, result),
                Event::Datagrams(train) => match &mut self.quic {
                    Some(quic) => quic.receive(Instant::now(), &mut self.ring, train),
                    None => self.ring.release_datagrams(train),
                },
                Event::OutOfBuffers => {}
                Event::AcceptFailed { errno, .. } => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    self.log
                        .event(Level::Warning, "accept_failed", &[("cause", &error)]);
                }
            }
        }
        Ok(())
    }
}

/// How many events come before one that gives a slot to a new connection whose old one was closed among them.
pub(super) fn cut_before_reuse(events: &[Event]) -> usize {
    let reuses = |(place, event): (usize, &Event)| match event {
        Event::Accepted { connection, .. } => {
            let gone = |event: &Event| matches!(event, Event::Closed { connection: gone, .. } | Event::Detached { connection: gone, .. } if gone.slot() == connection.slot());
            events[..place].iter().any(gone)
        }
        _ => false,
    };
    let closing = events
        .iter()
        .any(|event| matches!(event, Event::Closed { .. } | Event::Detached { .. }));
    match closing {
        false => events.len(),
        true => (events.iter().enumerate())
            .position(reuses)
            .unwrap_or(events.len()),
    }
}

/// A tunnel cannot begin: that takes random bytes and nothing else of the environment.
fn no_tunnel(error: &tls::rustls::Error) -> Diagnosis {
    diagnose(
        RANDOM_FAILED,
        "a tunnel",
        error.to_string(),
        "random bytes of the kernel",
        "see the kernel log",
    )
}
