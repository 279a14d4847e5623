//! What sessions of other shards send to logs of this one. They are judged as this shard's own are: by their number, in the
//! order in which they came to their shard, and answered there.

use std::collections::BTreeMap;

use partition::{Place, Segment};
use wire::ids::{EndpointId, Offset, Sequence};
use wire::reason::{Notice, Reason};
use wire::send::Send;

use crate::append::{AppendError, Next, appended, not_taken, place, record};
use crate::away::{Answered, Batch, Cargo, Carried, Mark, Said, Taken, frame_of};
use crate::io::ConnectionId;
use crate::log::Log;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::{give_back_for, shed};
use crate::session::SessionRef;
use crate::verify::Origin;
use crate::waiting::{Answer, Appended, Waiting};

/// A session of another shard that appends the direct frames of an endpoint: the one that claimed them last, unless a
/// session of this shard has claimed them since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    from: u16,
    connection: ConnectionId,
    session: SessionRef,
    /// As in `Stream`, which these three are for sessions of this shard.
    claimed_last: Sequence,
    received: Sequence,
    blocked: Option<Sequence>,
}

/// A claim whose answer waits until what its endpoint has in the log is committed.
#[derive(Debug)]
pub(crate) struct Claim {
    from: u16,
    carried: Carried,
    last: Sequence,
    upto: Offset,
}

/// Claims that wait, by log and sender, each by its place. A later one of the same takes an earlier one's place: however often an
/// endpoint comes while a disk stands still, one waits.
pub(crate) type Claims = BTreeMap<(u32, u32), Claim>;

/// Where a frame comes from, and where it stands among those of its stream.
#[derive(Clone, Copy)]
struct Sent<'b> {
    from: u16,
    carried: &'b Carried,
    mark: Mark,
}

impl Sent<'_> {
    /// Say what became of it; its credit goes back.
    fn answer(self, peers: &mut Peers, said: Said) {
        let carried = self.carried;
        answer(peers, self.from, carried, (1, taken(carried)), said);
    }
}

/// Do what another shard carried here, in its order.
pub(crate) fn take_batch<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    from: u16,
    batch: &Batch,
) {
    let (mut rest, mut at) = (&batch.bytes[..], 0);
    for carried in &batch.items {
        let (bytes, after) = rest.split_at(carried.bytes as usize);
        rest = after;
        if logs.get(at).is_none_or(|log| log.id != carried.partition) {
            let found = logs.iter().position(|log| log.id == carried.partition);
            at = found.expect("shards of a node agree on who owns what");
        }
        let log = &mut logs[at];
        match carried.cargo {
            Cargo::Envelope { number, paid } => {
                peers.counters.mesh.envelopes_in += 1;
                let send = frame_of(bytes);
                if let Err(notice) = append_envelope(peers, log, &send, from, carried, number) {
                    peers.counters.append.refused += 1;
                    let said = Said::Relayed(number, Some(notice));
                    answer(peers, from, carried, (1, taken(carried)), said);
                    if paid {
                        give_back_for(peers, &send);
                    }
                }
            }
            Cargo::Claim(endpoint) => claim(peers, log, at as u32, from, carried, endpoint),
            Cargo::Direct {
                granted,
                paid,
                mark,
            } => {
                peers.counters.mesh.frames_in += 1;
                let sent = Sent {
                    from,
                    carried,
                    mark,
                };
                let send = frame_of(bytes);
                let taken = append_direct(peers, log, sent, &send, granted);
                if paid && !taken {
                    give_back_for(peers, &send);
                }
            }
            Cargo::Refused {
                endpoint,
                number,
                notice,
                mark,
            } => {
                let sent = Sent {
                    from,
                    carried,
                    mark,
                };
                answer_refusal(peers, log, sent, endpoint, number, notice);
            }
        }
    }
}

fn taken(carried: &Carried) -> Taken {
    Taken {
        frames: u32::from(carried.bytes > 0),
        bytes: u64::from(carried.bytes),
    }
}

/// Say what became of something that was carried here.
fn answer(
    peers: &mut Peers,
    from: u16,
    carried: &Carried,
    (items, taken): (u32, Taken),
    said: Said,
) {
    peers.away[usize::from(from)].answers.push(Answered {
        connection: carried.connection,
        session: carried.session,
        stream: carried.stream,
        items,
        taken,
        said,
    });
}

/// The endpoint's direct frames are a session's of another shard from now on.
fn claim<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    at: u32,
    from: u16,
    carried: &Carried,
    endpoint: EndpointId,
) {
    let sender = log.sender(endpoint);
    let last = log.partition.sender(endpoint).last;
    let guest = Guest {
        from,
        connection: carried.connection,
        session: carried.session,
        claimed_last: last,
        received: Sequence(0),
        blocked: None,
    };
    log.senders[sender as usize].owner = None;
    log.guests.insert(sender, guest);
    let (committed, upto) = (
        log.senders[sender as usize].committed,
        log.partition.appended(),
    );
    let uncertain = committed < last || log.owes_sync();
    let claim = Claim {
        from,
        carried: *carried,
        last,
        upto: if uncertain { upto } else { Offset(0) },
    };
    if let Some(before) = peers.claims.insert((at, sender), claim) {
        let busy = Notice::new(Reason::Busy, 0, 0).retry_after(peers.retry_after_ms());
        let nothing = (0, Taken::default());
        answer(
            peers,
            before.from,
            &before.carried,
            nothing,
            Said::Closed(busy),
        );
    }
}

/// Answer the claims whose logs have come far enough.
pub(crate) fn answer_claims<S: Segment>(peers: &mut Peers, logs: &[Log<S>]) {
    let mut claims = std::mem::take(&mut peers.claims);
    claims.retain(|(log, sender), claim| {
        let log = &logs[*log as usize];
        let early = active(Bug::WelcomeBeforeCommit);
        let ready = log.sealed() || log.ackable() >= claim.upto || early;
        if ready {
            let committed = log.senders[*sender as usize].committed;
            let said = Said::Claimed {
                last: claim.last,
                committed: if early { claim.last } else { committed },
                sealed: log.sealed(),
            };
            answer(
                peers,
                claim.from,
                &claim.carried,
                (0, Taken::default()),
                said,
            );
        }
        !ready
    });
    peers.claims = claims;
}

impl<S: Segment> Log<S> {
    /// The session that a frame comes from, if the endpoint's direct frames are its.
    fn guest(&mut self, sender: u32, from: u16, carried: &Carried) -> Option<&mut Guest> {
        let own = self.senders[sender as usize].owner.is_some();
        let guest = self.guests.get_mut(&sender).filter(|_| !own)?;
        let whose = (guest.from, guest.session, guest.connection);
        let its = whose == (from, carried.session, carried.connection);
        its.then_some(guest)
    }
}

/// A direct frame, as `route` and `append` have it for sessions of this shard. Whether it was taken; if not, that is told.
fn append_direct<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    sent: Sent<'_>,
    send: &Send<'_>,
    granted: bool,
) -> bool {
    let (seen, sender) = (send.sequence(), log.sender(send.endpoint()));
    let Some(guest) = log.guest(sender, sent.from, sent.carried) else {
        superseded(peers, sent);
        return false;
    };
    if guest.blocked.is_some_and(|blocked| seen > blocked) {
        discard(peers, sent);
        return false;
    }
    guest.blocked = None;
    let (received, claimed_last) = (guest.received, guest.claimed_last);
    let refused = match log.sealed() {
        true => Some(AppendError::Sealed.notice()),
        // What may be in the log already takes no memory of its own.
        false if seen <= claimed_last.max(received) => None,
        false => shed(peers, send.channel())
            .err()
            .map(|error| error.notice()),
    };
    if let Some(notice) = refused {
        refuse(peers, log, sent, (sender, seen), notice);
        return false;
    }
    let needed = log.senders[sender as usize].last.next();
    let next = match granted || seen < needed {
        true if active(Bug::CrossesTwice) && seen <= claimed_last => Ok(Next::Append),
        true => place((received, claimed_last), log, send, granted, needed),
        false => Err(AppendError::NotGranted(send.channel())),
    };
    let done = match next {
        Ok(Next::Append) => write(peers, log, send).map(|(end, appended)| (end, Some(appended))),
        Ok(Next::Again) => {
            peers.counters.append.duplicates += 1;
            Ok((log.partition.appended(), None))
        }
        Err(error) => Err(error),
    };
    match done {
        Ok((end, appended)) => {
            if let Some(guest) = log.guests.get_mut(&sender) {
                guest.received = seen.max(guest.received);
            }
            let origin = Origin::Guest(sent.from, sent.mark.round);
            let answer = answer_of(sent.carried, origin, seen);
            let mut waiting = Waiting {
                end,
                appended,
                answer,
            };
            if active(Bug::AckOnArrival) {
                settle(peers, log, &waiting, sent.from);
                (waiting.answer.frames, waiting.answer.bytes) = (0, 0);
            }
            log.wait(waiting);
            true
        }
        Err(error) => {
            refuse(peers, log, sent, (sender, seen), error.notice());
            false
        }
    }
}

/// A refusal of a frame that its shard cannot tell, because the number may have been taken before.
fn answer_refusal<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    sent: Sent<'_>,
    endpoint: EndpointId,
    seen: Sequence,
    notice: Notice,
) {
    let sender = log.sender(endpoint);
    let Some(guest) = log.guest(sender, sent.from, sent.carried) else {
        return superseded(peers, sent);
    };
    let (received, claimed_last) = (guest.received, guest.claimed_last);
    let state = log.partition.sender(endpoint);
    let again = seen > received && seen <= claimed_last && state.holds(seen) == Some(true);
    let notice = if log.sealed() {
        AppendError::Sealed.notice()
    } else if seen > Sequence(0) && seen <= received {
        let needed = state.last.next();
        AppendError::Replayed { seen, needed }.notice()
    } else if notice.reason == Reason::Busy && again {
        // It is in the log: to reject it would say that it is not.
        return answer(
            peers,
            sent.from,
            sent.carried,
            (1, Taken::default()),
            Said::Closed(notice),
        );
    } else {
        notice
    };
    refuse(peers, log, sent, (sender, seen), notice);
}

/// Refuse a number, and let its stream go back to it if it leaves a gap.
fn refuse<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    sent: Sent<'_>,
    (sender, number): (u32, Sequence),
    notice: Notice,
) {
    let Some(guest) = log.guests.get_mut(&sender) else {
        return superseded(peers, sent);
    };
    if guest.blocked.is_some_and(|blocked| number > blocked) {
        return discard(peers, sent);
    }
    let gap = number > guest.received && notice.reason != Reason::Replayed;
    if gap {
        guest.blocked = Some(number);
    }
    peers.counters.append.refused += u64::from(sent.carried.bytes > 0);
    let said = Said::Rejected {
        number,
        notice,
        gap,
        mark: Some(sent.mark),
    };
    sent.answer(peers, said);
}

fn discard(peers: &mut Peers, sent: Sent<'_>) {
    let said = Said::Discarded(sent.mark.round);
    sent.answer(peers, said);
}

/// A newer session has the stream: the one that sent this is told, by its shard.
fn superseded(peers: &mut Peers, sent: Sent<'_>) {
    peers.counters.append.discarded += 1;
    let said = Said::Superseded(sent.mark.round);
    sent.answer(peers, said);
}

/// The replay window of an envelope's own endpoint, and the append.
fn append_envelope<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    send: &Send<'_>,
    from: u16,
    carried: &Carried,
    number: Sequence,
) -> Result<(), Notice> {
    if log.sealed() {
        return Err(AppendError::Sealed.notice());
    }
    let state = log.partition.sender(send.endpoint());
    let place = state.place(send.sequence());
    if place == Place::Below {
        let replayed = AppendError::Replayed {
            seen: send.sequence(),
            needed: state.last.next(),
        };
        return Err(replayed.notice());
    }
    if place != Place::Seen {
        shed(peers, send.channel()).map_err(|error| error.notice())?;
    }
    let (end, appended) = if place == Place::Seen && !active(Bug::SkipReplayWindow) {
        peers.counters.append.duplicates += 1;
        (log.partition.appended(), None)
    } else {
        let written = write(peers, log, send);
        let (end, appended) = written.map_err(|error| error.notice())?;
        (end, Some(appended))
    };
    // Its place in the log is its own number; the relay's is in its origin, for the answer.
    let answer = answer_of(carried, Origin::Carried(from, number), send.sequence());
    log.wait(Waiting {
        end,
        appended,
        answer,
    });
    Ok(())
}

fn answer_of(carried: &Carried, origin: Origin, number: Sequence) -> Answer {
    Answer {
        connection: carried.connection,
        session: carried.session,
        origin,
        stream: carried.stream,
        first: number,
        last: number,
        frames: 1,
        bytes: u64::from(carried.bytes),
    }
}

/// Copy a frame into its log. Its credit was taken by its own shard.
fn write<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    send: &Send<'_>,
) -> Result<(Offset, Appended), AppendError> {
    let counters = &mut peers.counters.append;
    let end = match record(counters, &mut peers.heat, peers.now.unix, log, send) {
        Ok(end) => end,
        Err(error) => return Err(not_taken(log, error, peers.retry_after_ms())),
    };
    let sender = log.sender(send.endpoint());
    let last = &mut log.senders[sender as usize].last;
    *last = send.sequence().max(*last);
    Ok((end, appended(send, sender, end)))
}

/// Tell the shard where frames came from that they are committed.
#[inline(never)]
pub(crate) fn settle<S: Segment>(peers: &mut Peers, log: &Log<S>, waiting: &Waiting, from: u16) {
    let answer = &waiting.answer;
    let said = match answer.origin {
        Origin::Carried(_, number) => Said::Relayed(number, None),
        origin => Said::Acked {
            last: answer.last,
            offset: waiting.last_offset(),
            ack_mode: log.ack,
            round: match origin {
                Origin::Guest(_, round) => round,
                _ => unreachable!("it came from another shard"),
            },
        },
    };
    tell(peers, answer, from, said);
}

/// Frames that were appended will never be durable: tell it the shard where they came from.
#[cold]
pub(crate) fn give_up<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    answer: &Answer,
    from: u16,
    notice: Notice,
) {
    if let Origin::Carried(_, number) = answer.origin {
        return tell(peers, answer, from, Said::Relayed(number, Some(notice)));
    }
    let whose = (from, answer.session, answer.connection);
    let guests = log.guests.values_mut();
    for guest in guests.filter(|guest| (guest.from, guest.session, guest.connection) == whose) {
        let first = answer.first;
        guest.blocked = Some(guest.blocked.map_or(first, |before| before.min(first)));
    }
    let said = Said::Rejected {
        number: answer.first,
        notice,
        gap: true,
        mark: None,
    };
    tell(peers, answer, from, said);
}

fn tell(peers: &mut Peers, answer: &Answer, from: u16, said: Said) {
    peers.away[usize::from(from)].answers.push(Answered {
        connection: answer.connection,
        session: answer.session,
        stream: answer.stream,
        items: answer.frames,
        taken: Taken {
            frames: answer.frames,
            bytes: answer.bytes,
        },
        said,
    });
}
