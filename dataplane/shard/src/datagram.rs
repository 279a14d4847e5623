//! Frames that came in QUIC datagrams: stages 2 to 5 for each by itself, as nothing that came before it says anything about it.
//!
//! Whatever is wrong with one, it is dropped and counted; its sender hears of it only if it asked to.

use partition::Segment;
use wire::datagram::whole;
use wire::ids::{DATAGRAM_STREAM, Sequence};
use wire::reason::{Notice, Reason};
use wire::send::Send;

use crate::append::{AppendError, Loose, append_loose};
use crate::counters::DatagramCounters;
use crate::io::Datagram;
use crate::log::Log;
use crate::peers::Peers;
use crate::route::{Owned, RouteError, give_back, route_datagram};
use crate::verify::verify_datagram;

/// Why a frame is dropped: what counts it, and what is said of it.
struct Dropped {
    counter: fn(&mut DatagramCounters) -> &mut u64,
    notice: Option<Notice>,
}

impl Dropped {
    fn new(
        counter: fn(&mut DatagramCounters) -> &mut u64,
        notice: impl Into<Option<Notice>>,
    ) -> Self {
        Self {
            counter,
            notice: notice.into(),
        }
    }
}

/// Take the datagrams of a turn.
pub(crate) fn take_datagrams<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    datagrams: &[Datagram<'_>],
) {
    for datagram in datagrams {
        peers.counters.datagram.received += 1;
        let Err(dropped) = take(peers, logs, owned, datagram) else {
            peers.counters.datagram.appended += 1;
            continue;
        };
        *(dropped.counter)(&mut peers.counters.datagram) += 1;
        if let Some(notice) = dropped.notice
            && datagram.number > 0
        {
            let number = Sequence(datagram.number);
            peers.reject(datagram.connection, DATAGRAM_STREAM, number, notice);
        }
    }
    if !datagrams.is_empty() {
        peers.sign_all();
    }
}

fn take<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    datagram: &Datagram<'_>,
) -> Result<(), Dropped> {
    let (id, now) = (datagram.connection, peers.now.monotonic);
    let open = peers.session_of(id).is_some();
    let connection = peers.connections.get_mut(id);
    let Some(connection) = connection.filter(|connection| open && connection.listens()) else {
        return Err(Dropped::new(|counters| &mut counters.strangers, None));
    };
    connection.received_at = now;
    let malformed = |notice| Dropped::new(|counters| &mut counters.malformed, notice);
    let Some(frame) = whole(datagram.bytes) else {
        return Err(malformed(Notice::new(
            Reason::FrameTooShort,
            datagram.bytes.len() as u64,
            0,
        )));
    };
    let send = Send::parse(frame).map_err(|fault| malformed(fault.notice()))?;
    let verified = verify_datagram(peers, id, datagram.number, &send)
        .map_err(|fault| Dropped::new(|counters| &mut counters.unverified, fault.notice()))?;
    let routed = route_datagram(peers, owned, &verified).map_err(|fault| match fault {
        RouteError::Elsewhere { .. } => {
            Dropped::new(|counters| &mut counters.elsewhere, fault.notice())
        }
        _ => Dropped::new(|counters| &mut counters.refused, fault.notice()),
    })?;
    let log = &mut logs[routed.log() as usize];
    let loose = append_loose(peers, log, &routed, datagram.number > 0);
    if loose != Ok(Loose::Appended) {
        give_back(peers, &routed);
    }
    match loose {
        Ok(Loose::Appended) => Ok(()),
        Ok(Loose::Again) => Err(Dropped::new(|counters| &mut counters.duplicates, None)),
        Ok(Loose::Late(needed)) => {
            let seen = send.sequence();
            let late = needed.map(|needed| AppendError::OutOfSequence { seen, needed }.notice());
            Err(Dropped::new(|counters| &mut counters.late, late))
        }
        Ok(Loose::Superseded) => Err(Dropped::new(|counters| &mut counters.superseded, None)),
        Err(fault) => {
            peers.counters.append.refused += 1;
            Err(Dropped::new(
                |counters| &mut counters.refused,
                fault.notice(),
            ))
        }
    }
}
