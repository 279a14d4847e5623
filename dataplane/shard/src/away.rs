//! What goes to the owners of logs of other shards, and what they say of it: envelopes and frames that were judged where they
//! came in, in batches, and answers to them. Each takes credit where it came in until its answer is there, so what is under
//! way has a bound; so has what waits for a way that is full.

use wire::frame::split;
use wire::ids::{AckMode, EndpointId, Offset, PartitionId, RELAY_STREAM, Sequence};
use wire::reason::Notice;
use wire::send::Send;

use crate::across::take_answer;
use crate::append::{AppendError, answer_relay, refuse};
use crate::bans::NewBan;
use crate::io::ConnectionId;
use crate::peers::Peers;
use crate::route::Routed;
use crate::session::SessionRef;
use crate::verify::Origin;

/// Bytes that wait for the way to one shard; what would be more is refused for now.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes that were loaded for one shard and have no answer yet: likewise.
const UNDER_WAY_BYTES_MAX: usize = 32 << 20;
/// What each thing that waits is reckoned to take besides its frame.
const ITEM_BYTES: usize = 128;
/// What waits for the way to one shard besides frames: claims, and refusals that only the owner of the log can tell; of these, what
/// has no answer yet, too.
const ITEMS_MAX: usize = 16_384;
/// Bans that wait.
const BANS_MAX: usize = 1_024;

/// What goes to one shard at once, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) items: Vec<Carried>,
}

impl Batch {
    /// What it is reckoned to take.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() + self.items.len() * ITEM_BYTES
    }
}

/// One thing in a batch, and who is told about it. The names are those of the shard that it came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) partition: PartitionId,
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    /// The stream, by its place in the session.
    pub(crate) stream: u32,
    /// Of its frame, which stands in the batch.
    pub(crate) bytes: u32,
    pub(crate) cargo: Cargo,
}

/// What is asked of the owner of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cargo {
    /// Append an envelope, under this relay number.
    Envelope {
        number: Sequence,
        /// As in `Direct`.
        paid: bool,
    },
    /// Let this session alone append direct frames of the endpoint, and say where its stream stands.
    Claim(EndpointId),
    /// Append a frame of the session's, if its number says so.
    Direct {
        /// Whether it may be appended, as `Routed` has it.
        granted: bool,
        /// Whether it was taken out of an allowance, which gets it back if it is not appended.
        paid: bool,
        mark: Mark,
    },
    /// A frame of the session's was refused: say how that is told, and let its stream go back.
    Refused {
        endpoint: EndpointId,
        number: Sequence,
        notice: Notice,
        mark: Mark,
    },
}

/// Where a frame stands among those of its stream: told back when it is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) round: u32,
    /// What went in this round, the frame included.
    pub(crate) gone: Taken,
}

/// What frames take of a session's credit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) frames: u32,
    pub(crate) bytes: u64,
}

/// What the owner of a log says.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    pub(crate) stream: u32,
    /// How many of the things that were carried this answers.
    pub(crate) items: u32,
    pub(crate) taken: Taken,
    pub(crate) said: Said,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Said {
    /// Of an envelope: why it was refused, if it was.
    Relayed(Sequence, Option<Notice>),
    /// The stream is the session's from now on: its highest number, and the highest that is committed.
    Claimed {
        last: Sequence,
        committed: Sequence,
        sealed: bool,
    },
    /// Frames up to a number are as safe as the mode says.
    Acked {
        last: Sequence,
        offset: Offset,
        ack_mode: AckMode,
        round: u32,
    },
    /// A number was refused; whether it is a gap to which its stream goes back. Without a mark it had been appended.
    Rejected {
        number: Sequence,
        notice: Notice,
        gap: bool,
        mark: Option<Mark>,
    },
    /// A frame of this round came behind one that was refused.
    Discarded(u32),
    /// A frame of this round came when the stream was another session's.
    Superseded(u32),
    /// The connection cannot go on.
    Closed(Notice),
}

impl Said {
    /// The round of what this answers, if it tells. Whatever went in rounds before it was judged before.
    pub(crate) fn round(&self) -> Option<u32> {
        match *self {
            Self::Acked { round, .. } | Self::Discarded(round) | Self::Superseded(round) => {
                Some(round)
            }
            Self::Rejected { mark, .. } => mark.map(|mark| mark.round),
            Self::Relayed(..) | Self::Claimed { .. } | Self::Closed(_) => None,
        }
    }
}

/// What waits to go to one other shard.
#[derive(Debug, Default)]
pub(crate) struct Away {
    pub(crate) batch: Batch,
    pub(crate) answers: Vec<Answered>,
    /// Of the batch: counts those before it.
    pub(crate) number: u32,
    /// Bytes that have no answer yet.
    under_way: usize,
    /// Bans that began here.
    pub(crate) bans: Vec<NewBan>,
    /// Refusals that have none: they take no credit.
    refusals: usize,
}

impl Away {
    /// Tell of a ban. While the way is blocked for long what is more is not told: its shard finds out by itself.
    pub(crate) fn tell_ban(&mut self, new: NewBan) {
        if self.bans.len() < BANS_MAX {
            self.bans.push(new);
        }
    }

    /// Bytes that have no answer yet, or wait for the way.
    pub(crate) fn memory_bytes(&self) -> usize {
        let items = self.batch.items.len().max(self.refusals) * size_of::<Carried>();
        self.under_way + items + self.answers.len() * size_of::<Answered>()
    }

    /// Something was answered.
    fn forget(&mut self, answered: &Answered) {
        self.under_way -= answered.taken.bytes as usize;
        // Whatever else is answered takes credit, or is no thing that counts.
        self.refusals -= (answered.items - answered.taken.frames) as usize;
    }

    /// Put something into the batch.
    pub(crate) fn load(
        &mut self,
        partition: PartitionId,
        (connection, session, stream): (ConnectionId, SessionRef, u32),
        cargo: Cargo,
        bytes: &[u8],
    ) {
        self.under_way += bytes.len();
        self.refusals += usize::from(matches!(cargo, Cargo::Refused { .. }));
        self.batch.bytes.extend_from_slice(bytes);
        self.batch.items.push(Carried {
            partition,
            connection,
            session,
            stream,
            bytes: bytes.len() as u32,
            cargo,
        });
    }

    /// Take the batch, if there is anything in it.
    pub(crate) fn unload(&mut self) -> Option<Batch> {
        if self.batch.items.is_empty() {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        Some(std::mem::take(&mut self.batch))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.items.is_empty() && self.answers.is_empty()
    }

    /// Why a frame of so many bytes has no room, if it has none: what is there, and what may be. A session of which `own`
    /// bytes wait already may have as much as it leaves to all others.
    pub(crate) fn crowded(&self, own: usize, bytes: usize) -> Option<(u64, u64)> {
        let waits = self.batch.room();
        let left = WAITING_BYTES_MAX.saturating_sub(waits);
        let under_way = self.under_way + bytes;
        let crowded = bytes > left || (own > 0 && own + bytes > left);
        if crowded {
            Some(((waits + bytes) as u64, WAITING_BYTES_MAX as u64))
        } else if under_way > UNDER_WAY_BYTES_MAX {
            Some((under_way as u64, UNDER_WAY_BYTES_MAX as u64))
        } else {
            None
        }
    }

    /// Whether so much waits that its owner is long in coming.
    pub(crate) fn slow(&self) -> bool {
        let items = self.batch.items.len().max(self.refusals);
        self.batch.bytes.len() >= WAITING_BYTES_MAX / 4 || items >= ITEMS_MAX / 4
    }

    /// Whether nothing at all has room any more.
    pub(crate) fn full(&self) -> bool {
        self.batch.items.len().max(self.refusals) >= ITEMS_MAX
    }
}

/// Take an envelope along to the shard that owns its log. Its relay number and its credit have been looked at.
pub(crate) fn carry(peers: &mut Peers, to: u16, frame: &Routed<'_>) -> Result<(), AppendError> {
    let Origin::Relayed(number) = frame.origin() else {
        unreachable!("the caller has an envelope")
    };
    let bytes = frame.send().frame().bytes();
    let retry_after_ms = peers.retry_after_ms();
    let away = &mut peers.away[usize::from(to)];
    if let Some((seen, needed)) = away.crowded(0, bytes.len()) {
        return Err(AppendError::Busy {
            seen,
            needed,
            retry_after_ms,
        });
    }
    let whose = (frame.connection(), frame.session(), 0);
    let cargo = Cargo::Envelope {
        number,
        paid: frame.paid(),
    };
    away.load(frame.partition(), whose, cargo, bytes);
    peers.carried += 1;
    peers.counters.mesh.envelopes_out += 1;
    Ok(())
}

/// The frame of something that was carried.
pub(crate) fn frame_of(bytes: &[u8]) -> Send<'_> {
    let frame = split(bytes).ok().flatten().map(|(frame, _)| frame);
    let send = frame.and_then(|frame| Send::parse(frame).ok());
    send.expect("the shard that it came to has parsed it")
}

/// Pass on what became of what this shard's sessions sent to logs of the shard `from`.
pub(crate) fn take_answers(peers: &mut Peers, from: u16, answers: &[Answered]) {
    for answered in answers {
        peers.carried -= u64::from(answered.items);
        let away = &mut peers.away[usize::from(from)];
        away.forget(answered);
        let Said::Relayed(number, refused) = answered.said else {
            take_answer(peers, answered);
            continue;
        };
        if let Some(session) = peers.sessions.get_mut(answered.session) {
            session.return_credit(1, answered.taken.bytes);
        }
        match refused {
            None => answer_relay(peers, answered.connection, number),
            Some(notice) => refuse(peers, answered.connection, RELAY_STREAM, number, notice),
        }
    }
}
