//! Stage 4, route: may this sender send this to this channel now, and which log takes it. Looks at grants and
//! restrictions of the route table in force; knows nothing of what is in the logs.

use std::net::IpAddr;

use wire::ids::{ChannelId, NO_STREAM, PartitionId, RELAY_STREAM, UnixNanos};
use wire::reason::{Notice, Reason};
use wire::route::{
    Allowance, Channel, GrantView, Overdrawn, Priority, RouteTable, Transport, Window, take,
};
use wire::send::Send;

use crate::budget::Pressure;
use crate::io::ConnectionId;
use crate::ownership::Ownership;
use crate::parse::Refusal;
use crate::peers::Peers;
use crate::session::{ChannelRoute, Session, SessionRef};
use crate::terms::outside_hours;
use crate::verify::{Origin, Verified, stream_of};

/// Why a frame may not go where it wants to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The shard is about to stop.
    #[error("draining")]
    Draining {
        /// When another node, or this one again, may be asked.
        retry_after_ms: u32,
    },
    /// The caller has the shard take nothing.
    #[error("the table is stale")]
    Suspended {
        /// When to come again.
        retry_after_ms: u32,
    },
    /// No such channel.
    #[error("channel {0} is unknown")]
    UnknownChannel(ChannelId),
    /// The sender has no grant for the channel.
    #[error("channel {0} is not granted")]
    NotGranted(ChannelId),
    /// The grant's time is over.
    #[error("the grant ended")]
    GrantExpired {
        /// When.
        expired: UnixNanos,
        /// The time now.
        now: UnixNanos,
    },
    /// The grant holds at other hours.
    #[error("not at this hour")]
    Hours {
        /// When they begin.
        begin: UnixNanos,
        /// The time now.
        now: UnixNanos,
    },
    /// A datagram of an endpoint that may send none.
    #[error("no datagrams")]
    NoDatagrams {
        /// The sum of the transports that it may use.
        transports: u8,
    },
    /// The log belongs to another shard.
    #[error("partition {0} is not this shard's")]
    NotOwner(PartitionId),
    /// The hub is in the table, and this node has none of its logs open.
    #[error("hub {hub} is not open")]
    Unopened {
        /// Its id.
        hub: u16,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// The grant does not hold for the peer's address.
    #[error("not from this address")]
    Address,
    /// The grant holds for certain origins, and this session has none.
    #[error("not without an origin")]
    Origin,
    /// A datagram for a log of another shard.
    #[error("datagrams for this log belong on shard {owner} of {shards}")]
    Elsewhere {
        /// Shards of the node.
        shards: u16,
        /// The one that owns the log.
        owner: u16,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// More than one of the rates that hold for the sender.
    #[error("{} now, {} a second allowed", .0.seen, .0.needed)]
    Rate(Overdrawn),
    /// Memory is short.
    #[error("{used} bytes in use, {below} allowed")]
    Shed {
        /// Whether it is because the channel's priority is low.
        low: bool,
        /// Bytes in use.
        used: u64,
        /// Bytes below which messages are taken again.
        below: u64,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// A body longer than the grant allows.
    #[error("body of {seen} bytes, {needed} allowed")]
    Body {
        /// Its length.
        seen: u64,
        /// The length allowed.
        needed: u64,
    },
}

impl RouteError {
    /// What the peer is told.
    pub fn notice(&self) -> Notice {
        match *self {
            Self::Draining { retry_after_ms } => {
                Notice::new(Reason::Draining, 0, 0).retry_after(retry_after_ms)
            }
            Self::Suspended { retry_after_ms } => {
                Notice::new(Reason::TableStale, 0, 0).retry_after(retry_after_ms)
            }
            Self::UnknownChannel(channel) => {
                Notice::new(Reason::UnknownChannel, u64::from(channel.0), 0)
            }
            Self::NotGranted(channel) => Notice::new(Reason::NotGranted, u64::from(channel.0), 0),
            Self::GrantExpired { expired, now } => {
                Notice::new(Reason::GrantExpired, now.seconds(), expired.seconds())
            }
            Self::Hours { begin, now } => outside_hours(Reason::RestrictedHours, begin, now),
            Self::NoDatagrams { transports } => Notice::new(
                Reason::TransportRefused,
                Transport::QuicDatagram as u64,
                u64::from(transports),
            ),
            Self::NotOwner(partition) => Notice::new(Reason::NotOwner, u64::from(partition.0), 0),
            Self::Unopened {
                hub,
                retry_after_ms,
            } => Notice::new(Reason::HubUnavailable, u64::from(hub), 0).retry_after(retry_after_ms),
            Self::Elsewhere {
                shards,
                owner,
                retry_after_ms,
            } => Notice::new(Reason::AnotherShard, u64::from(shards), u64::from(owner))
                .retry_after(retry_after_ms),
            Self::Address => Notice::new(Reason::RestrictedAddress, 0, 0),
            Self::Origin => Notice::new(Reason::RestrictedOrigin, 0, 0),
            Self::Rate(told) => {
                Notice::new(told.reason, told.seen, told.needed).retry_after(told.retry_after_ms)
            }
            Self::Shed {
                low,
                used,
                below,
                retry_after_ms,
            } => {
                let reason = match low {
                    true => Reason::LowPriorityShed,
                    false => Reason::Busy,
                };
                Notice::new(reason, used, below).retry_after(retry_after_ms)
            }
            Self::Body { seen, needed } => Notice::new(Reason::RestrictedBody, seen, needed),
        }
    }
}

/// A SEND that may be appended to a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routed<'a> {
    verified: Verified<'a>,
    partition: PartitionId,
    log: u32,
    stream: u32,
    granted: bool,
    paid: bool,
}

impl<'a> Routed<'a> {
    pub(crate) fn order(&self) -> u32 {
        self.verified.order()
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.verified.connection()
    }

    pub(crate) fn session(&self) -> SessionRef {
        self.verified.session()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.verified.origin()
    }

    pub(crate) fn send(&self) -> &'a Send<'a> {
        self.verified.send()
    }

    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The log, by its place in the shard; see [`away`].
    pub(crate) fn log(&self) -> u32 {
        self.log
    }

    /// The shard that owns the log, if it is not this one: then the log has no place here.
    pub(crate) fn away(&self) -> Option<u16> {
        away(self.log)
    }

    /// The stream of a direct frame, by its place in its session.
    pub(crate) fn stream(&self) -> u32 {
        self.stream
    }

    /// Whether it may be appended. One that may not has a number that may be in the log already, and is here for that.
    pub(crate) fn granted(&self) -> bool {
        self.granted
    }

    /// Whether it was taken out of an allowance: see [`give_back`].
    pub(crate) fn paid(&self) -> bool {
        self.paid
    }
}

/// Added to the owner's number it stands for the place of a log of another shard.
const AWAY: u32 = u32::MAX - u16::MAX as u32;

/// The shard that owns a log, by the log's place, if it is not this one.
pub(crate) fn away(log: u32) -> Option<u16> {
    log.checked_sub(AWAY).map(|owner| owner as u16)
}

/// Which logs a shard owns: partition to place, sorted.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    served: Vec<(PartitionId, u32)>,
    /// Those that the shard has and may not use yet, since others have not heard of them.
    coming: Vec<(PartitionId, u32)>,
}

impl Owned {
    pub(crate) fn new(partitions: impl Iterator<Item = PartitionId>) -> Self {
        let mut owned: Vec<(PartitionId, u32)> = partitions
            .enumerate()
            .map(|(at, partition)| (partition, at as u32))
            .collect();
        owned.sort_unstable();
        for pair in owned.windows(2) {
            assert!(
                pair[0].0 != pair[1].0,
                "partition {} is there twice",
                pair[0].0
            );
        }
        Self {
            served: owned,
            coming: Vec::new(),
        }
    }

    /// One more, which has no place yet: the shard has it, and nobody sends to it before [`serve`](Self::serve).
    pub(crate) fn add(&mut self, partition: PartitionId, place: u32) {
        assert_eq!(self.log(partition), None, "{partition} is there twice");
        self.coming.push((partition, place));
    }

    /// All that the shard has may be sent to.
    pub(crate) fn serve(&mut self) {
        self.served.append(&mut self.coming);
        self.served.sort_unstable();
    }

    /// Where a log is, whether it is served yet or not.
    pub(crate) fn log(&self, partition: PartitionId) -> Option<u32> {
        let coming = || self.coming.iter().find(|(id, _)| *id == partition);
        let coming = || coming().map(|(_, place)| *place);
        self.served(partition).or_else(coming)
    }

    /// Where a log is that may be sent to.
    pub(crate) fn served(&self, partition: PartitionId) -> Option<u32> {
        let at = self
            .served
            .binary_search_by_key(&partition, |(partition, _)| *partition)
            .ok()?;
        Some(self.served[at].1)
    }

    /// The place of a log of this shard or, for one of another shard, what [`away`] reads. Nothing if nobody owns it.
    pub(crate) fn place(&self, ownership: &Ownership, partition: PartitionId) -> Option<u32> {
        let elsewhere = || match ownership.shards() {
            1 => None,
            _ => Some(AWAY + u32::from(ownership.partition(partition)?)),
        };
        self.served(partition).or_else(elsewhere)
    }
}

/// Stage 4: find the log of every frame, in order.
pub(crate) fn route<'a>(
    peers: &mut Peers,
    owned: &Owned,
    verified: &[Verified<'a>],
    routed: &mut Vec<Routed<'a>>,
    refusals: &mut Vec<Refusal>,
) {
    let mut rest = verified;
    while let Some(first) = rest.first() {
        let Some(way) = unrestricted(peers, first) else {
            route_one(peers, owned, first, routed, refusals);
            rest = &rest[1..];
            continue;
        };
        // Those behind it that are of the same session and channel go the same way.
        let same = |frame: &&Verified<'_>| {
            frame.session() == first.session()
                && frame.origin() == Origin::Direct
                && frame.send().channel() == first.send().channel()
        };
        let count = rest.iter().take_while(same).count();
        let (run, behind) = rest.split_at(count);
        peers.counters.route.frames += count as u64;
        routed.extend(run.iter().map(|frame| Routed {
            verified: *frame,
            partition: way.partition,
            log: way.log,
            stream: way.stream,
            granted: true,
            paid: false,
        }));
        rest = behind;
    }
}

/// Where a session's own frames go.
struct Way {
    partition: PartitionId,
    log: u32,
    stream: u32,
}

/// The way of a direct frame whose grant has nothing to look at: the usual one.
fn unrestricted(peers: &Peers, frame: &Verified<'_>) -> Option<Way> {
    let pressed = peers.memory.pressure >= Pressure::LowPriority;
    if pressed || peers.draining || peers.suspended || frame.origin() != Origin::Direct {
        return None;
    }
    let session = peers.sessions.get(frame.session())?;
    let route = session.route(frame.send().channel())?;
    let stream = &session.streams[route.stream as usize];
    (!route.restricted).then_some(Way {
        partition: stream.partition,
        log: stream.log,
        stream: route.stream,
    })
}

#[inline(never)]
fn route_one<'a>(
    peers: &mut Peers,
    owned: &Owned,
    frame: &Verified<'a>,
    routed: &mut Vec<Routed<'a>>,
    refusals: &mut Vec<Refusal>,
) {
    match find(peers, owned, frame) {
        Ok(found) => {
            peers.counters.route.frames += 1;
            routed.push(found);
        }
        Err(error) => {
            peers.counters.route.refused += 1;
            let (connection, send) = (frame.connection(), frame.send());
            let (partition, sequence) = match frame.origin() {
                Origin::Direct | Origin::Guest(..) => {
                    (stream_of(peers, connection, send), send.sequence())
                }
                Origin::Relayed(number) | Origin::Carried(_, number) => (RELAY_STREAM, number),
                Origin::Datagram(_) => unreachable!("datagrams are routed by themselves"),
            };
            let (order, notice) = (frame.order(), error.notice());
            refusals.push(Refusal {
                order,
                connection,
                partition,
                sequence,
                notice,
            });
        }
    }
}

fn find<'a>(
    peers: &mut Peers,
    owned: &Owned,
    frame: &Verified<'a>,
) -> Result<Routed<'a>, RouteError> {
    if peers.draining {
        return Err(RouteError::Draining {
            retry_after_ms: peers.retry_after_ms(),
        });
    }
    if peers.suspended {
        return Err(RouteError::Suspended {
            retry_after_ms: peers.retry_after_ms(),
        });
    }
    let send = frame.send();
    let address = |peers: &Peers| {
        let connection = peers.connections.get(frame.connection());
        connection.map(|connection| connection.peer)
    };
    let mut found = Routed {
        verified: *frame,
        partition: NO_STREAM,
        log: 0,
        stream: 0,
        granted: true,
        paid: false,
    };
    if frame.origin() == Origin::Direct
        && let Some(session) = peers.sessions.get(frame.session())
        && let Some((at, route)) = stream_of_direct(peers, session, send)
    {
        let stream = &session.streams[at];
        (found.partition, found.log, found.stream) = (stream.partition, stream.log, at as u32);
        let granted = |route: &ChannelRoute| {
            let endpoint = peers.endpoint_held(session);
            let address = address(peers).ok_or(RouteError::Address)?;
            let grant = endpoint.send.at(route.grant as usize);
            check_restriction(&grant, address, send, peers.now.unix)
        };
        match route {
            // What is in the log already is at most acked again and needs no grant any more; to refuse it for want of
            // one would tell its sender that it is not in the log.
            _ if send.sequence() <= stream.taken() => {
                let granted = |route: &ChannelRoute| !route.restricted || granted(route).is_ok();
                found.granted = route.is_some_and(granted);
                return Ok(found);
            }
            Some(route) => {
                if route.restricted {
                    granted(route)?;
                }
                found.paid = admit(peers, send)?;
                return Ok(found);
            }
            None => {}
        }
    }
    let address = address(peers).ok_or(RouteError::NotGranted(send.channel()))?;
    let (partition, log) = look_up(&peers.table, owned, send, (address, peers.now.unix))?;
    if frame.origin() == Origin::Direct {
        // What a session may send to it has a stream for, or it is not for it to send here: its numbers are counted by streams alone.
        return Err(not_here(peers, partition));
    }
    let away = || {
        let owner = peers.ownership.partition(partition);
        owner.filter(|owner| *owner != peers.limits.shard)
    };
    let log = log.or_else(|| away().map(|owner| AWAY + u32::from(owner)));
    found.partition = partition;
    found.log = log.ok_or_else(|| not_here(peers, partition))?;
    found.paid = admit(peers, send)?;
    Ok(found)
}

/// Why no log of this shard takes what is for this partition of the table.
#[cold]
fn not_here(peers: &Peers, partition: PartitionId) -> RouteError {
    match peers.ownership.has(partition.hub()) {
        true => RouteError::NotOwner(partition),
        false => RouteError::Unopened {
            hub: partition.hub(),
            retry_after_ms: peers.retry_after_ms(),
        },
    }
}

/// Stage 4 for a frame that came in a datagram: its log is this shard's, or it goes nowhere.
pub(crate) fn route_datagram<'a>(
    peers: &mut Peers,
    owned: &Owned,
    frame: &Verified<'a>,
) -> Result<Routed<'a>, RouteError> {
    let found = may_send_datagrams(peers, frame).and_then(|()| find(peers, owned, frame));
    let found = found.and_then(|found| match found.away() {
        None => Ok(found),
        Some(owner) => {
            give_back(peers, &found);
            Err(RouteError::Elsewhere {
                shards: peers.ownership.shards(),
                owner,
                retry_after_ms: peers.retry_after_ms(),
            })
        }
    });
    match found {
        Ok(_) => peers.counters.route.frames += 1,
        Err(_) => peers.counters.route.refused += 1,
    }
    found
}

fn may_send_datagrams(peers: &Peers, frame: &Verified<'_>) -> Result<(), RouteError> {
    let Some(session) = peers.sessions.get(frame.session()) else {
        return Ok(());
    };
    let transports = peers.endpoint_held(session).transports();
    match transports.has(Transport::QuicDatagram) {
        true => Ok(()),
        false => Err(RouteError::NoDatagrams {
            transports: transports.bits(),
        }),
    }
}

/// The stream of a session's own frame, by its place, and the route to its channel if it has one still.
fn stream_of_direct<'s>(
    peers: &Peers,
    session: &'s Session,
    send: &Send<'_>,
) -> Option<(usize, Option<&'s ChannelRoute>)> {
    if let Some(route) = session.route(send.channel()) {
        return Some((route.stream as usize, Some(route)));
    }
    let channel = peers.table.channel(send.channel())?;
    let at = session.stream_of(peers.table.partition_of(send.endpoint(), channel))?;
    Some((at, None))
}

/// The way through the route table itself: envelopes, and whatever a session has no route for.
fn look_up(
    table: &RouteTable,
    owned: &Owned,
    send: &Send<'_>,
    (address, now): (IpAddr, UnixNanos),
) -> Result<(PartitionId, Option<u32>), RouteError> {
    let channel: &Channel = table
        .channel(send.channel())
        .ok_or(RouteError::UnknownChannel(send.channel()))?;
    let grant = table
        .endpoint(send.endpoint())
        .and_then(|endpoint| endpoint.send_grant(channel.id));
    let grant = grant.ok_or(RouteError::NotGranted(channel.id))?;
    check_restriction(&grant, address, send, now)?;
    let partition = table.partition_of(send.endpoint(), channel);
    Ok((partition, owned.served(partition)))
}

/// Everything a grant asks for but the rates. What cannot be checked fails.
fn check_restriction(
    grant: &GrantView<'_>,
    address: IpAddr,
    send: &Send<'_>,
    now: UnixNanos,
) -> Result<(), RouteError> {
    let restriction = grant.restriction;
    if restriction.is_none() {
        return Ok(());
    }
    if let Some(expired) = restriction.expires.filter(|_| restriction.is_over(now)) {
        return Err(RouteError::GrantExpired { expired, now });
    }
    if !Window::any_open(&restriction.windows, now) {
        let begin = Window::next_opening(&restriction.windows, now);
        return Err(RouteError::Hours { begin, now });
    }
    if !restriction.allows_address(address) {
        return Err(RouteError::Address);
    }
    if !restriction.allows_origin(None) {
        return Err(RouteError::Origin);
    }
    let Some(needed) = restriction.body_bytes_max.map(u64::from) else {
        return Ok(());
    };
    let longest = send
        .messages()
        .map(|message| message.body.len() as u64)
        .max()
        .unwrap_or(0);
    if longest > needed {
        Err(RouteError::Body {
            seen: longest,
            needed,
        })
    } else {
        Ok(())
    }
}

/// Let a frame in that is in no log yet, if memory and all rates that hold for its sender allow it. They are those of its
/// endpoint's grant, of the endpoint and of its account: another session, or another shard, starts none anew. Returns whether it
/// was taken out of any.
fn admit(peers: &mut Peers, send: &Send<'_>) -> Result<bool, RouteError> {
    shed(peers, send.channel())?;
    let now = u64::try_from(peers.now.monotonic.as_nanos()).unwrap_or(u64::MAX);
    let (messages, bytes) = (u32::from(send.count()), send.frame().bytes().len() as u64);
    let Some(allowances) = allowances(&peers.table, send) else {
        return Ok(false);
    };
    take(allowances, messages, bytes, now).map_err(RouteError::Rate)?;
    Ok(true)
}

/// A frame that was let in was not appended: what it was taken out of gets it back.
#[cold]
pub(crate) fn give_back(peers: &Peers, frame: &Routed<'_>) {
    if frame.paid {
        give_back_for(peers, frame.send());
    }
}

/// The same for one that came from another shard and had been taken out of an allowance there.
#[cold]
pub(crate) fn give_back_for(peers: &Peers, send: &Send<'_>) {
    if let Some(allowances) = allowances(&peers.table, send) {
        let (messages, bytes) = (u32::from(send.count()), send.frame().bytes().len() as u64);
        wire::route::give_back(allowances, messages, bytes);
    }
}

/// What a frame is taken out of, if anything.
fn allowances<'t>(
    table: &'t RouteTable,
    send: &Send<'_>,
) -> Option<impl Iterator<Item = &'t Allowance> + Clone + use<'t>> {
    let endpoint = table.endpoint_index(send.endpoint())?;
    let allowances = table.allowances(endpoint, send.channel());
    allowances.clone().next().is_some().then_some(allowances)
}

/// While memory is short, refuse messages to channels of low priority, and in the end all.
pub(crate) fn shed(peers: &mut Peers, channel: ChannelId) -> Result<(), RouteError> {
    let pressure = peers.memory.pressure;
    if pressure < Pressure::LowPriority {
        return Ok(());
    }
    let channel = peers.table.channel(channel);
    let low = channel.is_some_and(|channel| channel.priority == Priority::Low);
    let counters = &mut peers.counters.shed;
    match low {
        true => counters.low_priority_frames += 1,
        false if pressure == Pressure::All => counters.normal_frames += 1,
        false => return Ok(()),
    }
    Err(RouteError::Shed {
        low,
        used: peers.memory.used.total(),
        below: peers.memory.ends(match low {
            true => Pressure::LowPriority,
            false => Pressure::All,
        }),
        retry_after_ms: peers.retry_after_ms(),
    })
}
