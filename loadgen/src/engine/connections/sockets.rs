//! Sockets on a ring, and the tunnels of those that have one: what is sent in one go shares records, however many frames it is.

use super::{BYE_TIME, mixed};
use crate::diagnosis;
use crate::socket::Socket;
use ring::{ConnectionId, Event, Features, Ring, RingLimits};
use std::net::TcpStream;
use std::time::Duration;
use tls::Tunnel;
use wire::diagnosis::Diagnosis;

/// A ring with the sockets of one thread.
pub(in crate::engine) struct RingSockets {
    ring: Ring,
    ids: Vec<ConnectionId>,
    index_of_slot: Vec<Option<usize>>,
    events: Vec<Event>,
    /// By connection; none for plain ones.
    tunnels: Vec<Option<Tunnelled>>,
    /// Connections whose tunnels have something to encrypt.
    touched: Vec<usize>,
    plaintext: Vec<u8>,
}

struct Tunnelled {
    tunnel: Box<Tunnel>,
    /// Frames to be encrypted.
    frames: Vec<u8>,
}

impl RingSockets {
    pub(super) fn new(
        sockets: Vec<Socket>,
        spare: usize,
        (buffers, buffer_bytes): (u16, u32),
    ) -> Result<Self, Diagnosis> {
        let failed = |error| diagnosis::ring(&error);
        let connections = u32::try_from(sockets.len() + spare)
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
        let ring = Ring::new(limits, Features::probe().map_err(failed)?).map_err(failed)?;
        let mut all = Self {
            ring,
            ids: Vec::new(),
            index_of_slot: vec![None; connections as usize],
            events: Vec::new(),
            tunnels: Vec::new(),
            touched: Vec::new(),
            plaintext: Vec::new(),
        };
        for (index, socket) in sockets.into_iter().enumerate() {
            let (stream, tunnel) = parts(socket)?;
            let id = all.attach(index, stream)?;
            all.ids.push(id);
            all.tunnels.push(tunnel);
        }
        Ok(all)
    }

    fn attach(&mut self, index: usize, stream: TcpStream) -> Result<ConnectionId, Diagnosis> {
        let attached = self.ring.attach(stream);
        let id = attached.map_err(|error| diagnosis::ring(&error))?;
        self.index_of_slot[id.slot()] = Some(index);
        Ok(id)
    }

    pub(super) fn replace(&mut self, index: usize, socket: Socket) -> Result<(), Diagnosis> {
        let (stream, tunnel) = parts(socket)?;
        self.ids[index] = self.attach(index, stream)?;
        self.tunnels[index] = tunnel;
        Ok(())
    }

    pub(super) fn give_up(&mut self, index: usize) {
        let slot = self.ids[index].slot();
        // Another connection may have this slot by now.
        if self.index_of_slot[slot] == Some(index) {
            self.index_of_slot[slot] = None;
            self.ring.abort(self.ids[index]);
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.ring.connections() < self.index_of_slot.len()
    }

    pub(super) fn open(&self) -> usize {
        self.ring.connections()
    }

    pub(super) fn poll(
        &mut self,
        mut take: impl FnMut(usize, Result<&[u8], String>),
    ) -> Result<bool, Diagnosis> {
        let polled = self.ring.poll(&mut self.events);
        polled.map_err(|error| diagnosis::ring(&error))?;
        let any = !self.events.is_empty();
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::Received { connection, lease } => {
                    if let Some(index) = self.index_of_slot[connection.slot()] {
                        match &mut self.tunnels[index] {
                            None => take(index, Ok(self.ring.bytes(&lease))),
                            Some(tunnelled) => {
                                let bytes = self.ring.bytes(&lease);
                                self.plaintext.clear();
                                let broken = tunnelled.tunnel.receive(bytes, &mut self.plaintext);
                                take(index, Ok(&self.plaintext));
                                if let Err(broken) = broken {
                                    take(index, Err(format!("the tunnel broke: {broken}")));
                                }
                                if tunnelled.tunnel.wants_flush() {
                                    self.touched.push(index);
                                }
                            }
                        }
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
        self.events = events;
        self.encrypt();
        Ok(any)
    }

    pub(super) fn submit(&mut self) -> Result<(), Diagnosis> {
        self.encrypt();
        let submitted = self.ring.submit();
        submitted
            .map(|_| ())
            .map_err(|error| diagnosis::ring(&error))
    }

    /// Put everything that tunnels have to say into the ring.
    fn encrypt(&mut self) {
        while let Some(index) = self.touched.pop() {
            let Some(Tunnelled { tunnel, frames }) = &mut self.tunnels[index] else {
                continue;
            };
            let mut out = self.ring.take_buffer();
            tunnel.send(frames, &mut out);
            tunnel.flush(&mut out);
            frames.clear();
            match out.is_empty() {
                true => self.ring.recycle_buffer(out),
                false => self.ring.send(self.ids[index], out),
            }
        }
    }

    pub(super) fn wait(&mut self, most: Duration) -> Result<(), Diagnosis> {
        self.encrypt();
        let waited = self.ring.wait(most);
        waited.map(|_| ()).map_err(|error| diagnosis::ring(&error))
    }

    pub(super) fn close(&mut self, index: usize) {
        self.encrypt();
        if let Some(Tunnelled { tunnel, .. }) = &mut self.tunnels[index] {
            let mut out = self.ring.take_buffer();
            tunnel.finish(&mut out);
            self.ring.send(self.ids[index], out);
        }
        self.ring.close(self.ids[index]);
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.ring.take_buffer()
    }

    pub(super) fn send(&mut self, lane: usize, mut bytes: Vec<u8>) {
        match &mut self.tunnels[lane] {
            None => self.ring.send(self.ids[lane], bytes),
            Some(Tunnelled { frames, .. }) => {
                if frames.is_empty() {
                    self.touched.push(lane);
                }
                frames.append(&mut bytes);
                self.ring.recycle_buffer(bytes);
            }
        }
    }
}

fn parts(socket: Socket) -> Result<(TcpStream, Option<Tunnelled>), Diagnosis> {
    match socket {
        Socket::Tcp(stream) => Ok((stream, None)),
        Socket::Tls(stream, tunnel) => {
            let frames = Vec::new();
            Ok((stream, Some(Tunnelled { tunnel, frames })))
        }
        Socket::Quic(..) => Err(mixed()),
    }
}
