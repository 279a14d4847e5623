//! The connections of one thread of a run, on a ring of its own.

use super::Sockets;
use super::sending::Port;
use crate::diagnosis;
use ring::{ConnectionId, Event, Features, Ring, RingLimits};
use std::net::TcpStream;
use std::time::Duration;
use wire::diagnosis::Diagnosis;

/// Longest wait for something to come.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(20);
/// How long a connection that says BYE may take, nanoseconds.
pub(super) const BYE_TIME: u64 = 500_000_000;

/// A ring with the connections of one thread; their indexes are the caller's.
pub(super) struct Connections {
    pub(super) ring: Ring,
    pub(super) ids: Vec<ConnectionId>,
    index_of_slot: Vec<Option<usize>>,
    events: Vec<Event>,
}

impl Connections {
    /// The connections, and what had come on each before; there is room for `spare` more.
    pub(super) fn new(
        sockets: Sockets,
        spare: usize,
        (buffers, buffer_bytes): (u16, u32),
    ) -> Result<(Self, Vec<Vec<u8>>), Diagnosis> {
        let failed = |error| diagnosis::ring(&error);
        let connections = u32::try_from(sockets.streams.len() + spare)
            .unwrap_or(u32::MAX)
            .max(1);
        let limits = RingLimits {
            buffers,
            buffer_bytes,
            connections_max: connections,
            sends_bytes_max: 256 << 20,
            close_timeout: Duration::from_nanos(BYE_TIME),
            ..RingLimits::default()
        };
        let mut ring = Ring::new(limits, Features::probe().map_err(failed)?).map_err(failed)?;
        let mut ids = Vec::new();
        let mut index_of_slot = vec![None; connections as usize];
        for (index, stream) in sockets.streams.into_iter().enumerate() {
            let id = ring.attach(stream).map_err(failed)?;
            index_of_slot[id.slot()] = Some(index);
            ids.push(id);
        }
        Ok((
            Self {
                ring,
                ids,
                index_of_slot,
                events: Vec::new(),
            },
            sockets.rests,
        ))
    }

    /// Put another connection in the place of this one, if there is room already.
    pub(super) fn replace(&mut self, index: usize, stream: TcpStream) -> Result<(), Diagnosis> {
        let id = self
            .ring
            .attach(stream)
            .map_err(|error| diagnosis::ring(&error))?;
        self.index_of_slot[id.slot()] = Some(index);
        self.ids[index] = id;
        Ok(())
    }

    /// Break a connection off, so that it can be replaced.
    pub(super) fn give_up(&mut self, index: usize) {
        let slot = self.ids[index].slot();
        // Another connection may have this slot by now.
        if self.index_of_slot[slot] == Some(index) {
            self.index_of_slot[slot] = None;
            self.ring.abort(self.ids[index]);
        }
    }

    /// Whether one more connection can be attached.
    pub(super) fn has_room(&self) -> bool {
        self.ring.connections() < self.index_of_slot.len()
    }

    /// Take what has come: bytes by connection, and which connections ended. True when there was something.
    pub(super) fn poll(
        &mut self,
        mut take: impl FnMut(usize, Result<&[u8], String>),
    ) -> Result<bool, Diagnosis> {
        self.ring
            .poll(&mut self.events)
            .map_err(|error| diagnosis::ring(&error))?;
        let any = !self.events.is_empty();
        for event in self.events.drain(..) {
            match event {
                Event::Received { connection, lease } => {
                    if let Some(index) = self.index_of_slot[connection.slot()] {
                        take(index, Ok(self.ring.bytes(&lease)));
                    }
                    self.ring.release(lease);
                }
                Event::Finished { connection } => {
                    if let Some(index) = self.index_of_slot[connection.slot()] {
                        take(index, Err("the server ended the connection".to_owned()));
                    }
                }
                Event::Closed { connection, cause } => {
                    if let Some(index) = self.index_of_slot[connection.slot()].take() {
                        take(index, Err(format!("the connection ended: {cause:?}")));
                    }
                }
                _ => {}
            }
        }
        Ok(any)
    }

    pub(super) fn wait(&mut self, most: Duration) -> Result<(), Diagnosis> {
        self.ring
            .wait(most.min(WAIT_MAX))
            .map_err(|error| diagnosis::ring(&error))
    }
}

impl Port for Connections {
    fn buffer(&mut self) -> Vec<u8> {
        self.ring.take_buffer()
    }

    fn send(&mut self, lane: usize, bytes: Vec<u8>) {
        self.ring.send(self.ids[lane], bytes);
    }
}
