//! The endpoints and channels for which most was appended in the last seconds, in memory of a fixed size.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, 2005): a ranking has [`PLACES`] places; who has none takes the place of the least,
//! with its weight, which is from then on by how much the new one's may be too high. So with all weights `w` together nobody is
//! ranked lower than it should be, none higher than by `w / PLACES`, and who has more than that is there. Weights fade, to a half in
//! [`HALF_LIFE`], all of them together, so the same holds for what they have become.
//!
//! Frames are sampled, so that this costs a shard the same however busy it is: all of them are looked at as long as there are
//! less than [`SAMPLES_PER_TICK`] in a [`TICK`], then one in 2, one in 4, and so on, each for as many as it stands for. The gaps
//! between samples are drawn, or connections that take turns would be taken for one; they follow from the frames before, as all
//! that a shard does. Whose rates these are is nobody's secret, so nothing is gained by guessing them.

use std::time::Duration;

use wire::ids::{ChannelId, EndpointId};

/// Places of a ranking.
pub const PLACES: usize = 64;
/// After this time what was counted counts half.
pub const HALF_LIFE: Duration = Duration::from_secs(2);
/// How often it fades.
const TICK: Duration = Duration::from_millis(250);
const TICKS_TO_HALF: f64 = 8.0;
/// Frames looked at in a tick, before only every second one of them is.
const SAMPLES_PER_TICK: u32 = 1_024;
const ONE_IN_MAX: u32 = 1 << 20;
/// Less than this is nothing: in a minute without frames a million messages fade to it.
const NOTHING: f64 = 1e-3;

/// Who had most in the last seconds. All of it is estimated from samples, see [`Ranking`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hottest {
    /// Endpoints that sent most messages.
    pub endpoints_by_messages: Ranking<EndpointId>,
    /// Endpoints that sent most bytes.
    pub endpoints_by_bytes: Ranking<EndpointId>,
    /// Channels that most messages were sent to.
    pub channels_by_messages: Ranking<ChannelId>,
    /// Channels that most bytes were sent to.
    pub channels_by_bytes: Ranking<ChannelId>,
    /// One in so many frames is looked at just now.
    pub one_in: u32,
}

/// A ranking by messages, or by bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking<K> {
    /// The greatest first; at most [`PLACES`].
    pub rows: Vec<Hot<K>>,
    /// Of all together, those without a place included; per second.
    pub total: f64,
    /// What one without a place has at most; per second.
    pub absent_max: f64,
}

/// One place of a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hot<K> {
    /// Who it is.
    pub key: K,
    /// Messages per second. In a ranking by bytes those since it has its place: at most too low.
    pub messages: f64,
    /// Bytes of frames per second. In a ranking by messages those since it has its place: at most too low.
    pub bytes: f64,
    /// By how much what it is ranked by may be too high, because others had its place before.
    pub too_high_max: f64,
    /// Twice the standard deviation of what it is ranked by, because frames are sampled; 0 while all of them are looked at.
    pub spread: f64,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            total: 0.0,
            absent_max: 0.0,
        }
    }
}

/// What a shard keeps to say who had most.
#[derive(Debug, Clone)]
pub(crate) struct Heat {
    /// Frames until the next one that is looked at, that one included.
    left: u32,
    /// For how many frames the next one stands.
    one_in: u32,
    /// Looked at since the tick began, or since fewer are.
    samples: u32,
    /// Frames from the begin of the tick to the next one that is looked at.
    drawn: u64,
    /// When the next tick begins.
    tick_ends: Duration,
    /// Length of the ticks that are over, faded as what was counted in them.
    seconds: f64,
    random: u64,
    tables: Box<Tables>,
}

#[derive(Debug, Clone)]
struct Tables {
    endpoints_by_messages: Table,
    endpoints_by_bytes: Table,
    channels_by_messages: Table,
    channels_by_bytes: Table,
}

/// A ranking in the making. Its places are in no order.
#[derive(Debug, Clone)]
struct Table {
    used: usize,
    keys: [u64; PLACES],
    /// What it is ranked by.
    weights: [f64; PLACES],
    errors: [f64; PLACES],
    /// Bytes, if it is ranked by messages; messages, if by bytes.
    others: [f64; PLACES],
    variances: [f64; PLACES],
    total: f64,
}

impl Heat {
    /// Nobody had anything; counting begins `now`.
    pub(crate) fn new(now: Duration) -> Self {
        let table = Table {
            used: 0,
            keys: [0; PLACES],
            weights: [0.0; PLACES],
            errors: [0.0; PLACES],
            others: [0.0; PLACES],
            variances: [0.0; PLACES],
            total: 0.0,
        };
        Self {
            left: 1,
            one_in: 1,
            samples: 0,
            drawn: 1,
            tick_ends: now + TICK,
            seconds: 0.0,
            random: 0x9E37_79B9_7F4A_7C15,
            tables: Box::new(Tables {
                endpoints_by_messages: table.clone(),
                endpoints_by_bytes: table.clone(),
                channels_by_messages: table.clone(),
                channels_by_bytes: table,
            }),
        }
    }

    /// A turn begins: let fade what was counted, if it is time.
    #[inline]
    pub(crate) fn turn(&mut self, now: Duration) {
        if now >= self.tick_ends {
            self.tick(now);
        }
    }

    /// A frame was appended.
    #[inline]
    pub(crate) fn note(
        &mut self,
        endpoint: EndpointId,
        channel: ChannelId,
        messages: u16,
        bytes: usize,
    ) {
        self.left -= 1;
        if self.left == 0 {
            self.look(endpoint, channel, messages.into(), bytes as f64);
        }
    }

    #[cold]
    fn look(&mut self, endpoint: EndpointId, channel: ChannelId, messages: f64, bytes: f64) {
        let times = f64::from(self.one_in);
        let (endpoint, channel) = (endpoint.0, channel.0.into());
        let tables = &mut self.tables;
        tables
            .endpoints_by_messages
            .add(endpoint, messages, bytes, times);
        tables
            .endpoints_by_bytes
            .add(endpoint, bytes, messages, times);
        tables
            .channels_by_messages
            .add(channel, messages, bytes, times);
        tables
            .channels_by_bytes
            .add(channel, bytes, messages, times);
        self.samples += 1;
        if self.samples >= SAMPLES_PER_TICK {
            self.samples = 0;
            self.one_in = (self.one_in * 2).min(ONE_IN_MAX);
        }
        self.draw();
    }

    /// How many frames until the next one: `one_in` on average.
    fn draw(&mut self) {
        // xorshift64, Marsaglia 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let gaps = u64::from(self.one_in) * 2 - 1;
        self.left = 1 + (((self.random >> 32) * gaps) >> 32) as u32;
        self.drawn += u64::from(self.left);
    }

    #[cold]
    fn tick(&mut self, now: Duration) {
        let late = now.saturating_sub(self.tick_ends);
        let ticks = 1 + (late.as_nanos() / TICK.as_nanos()) as u64;
        let frames = self.drawn - u64::from(self.left);
        let wanted = frames.div_ceil(ticks * u64::from(SAMPLES_PER_TICK)).max(1);
        let wanted = u32::try_from(wanted).map_or(ONE_IN_MAX, u32::next_power_of_two);
        // A long gap drawn in busier times must not hide what comes now.
        let before = std::mem::replace(&mut self.one_in, wanted.min(ONE_IN_MAX));
        self.samples = 0;
        self.drawn = self.left.into();
        if self.one_in < before {
            self.drawn = 0;
            self.draw();
        }
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.tick_ends += TICK * ticks;
        self.fade(ticks);
    }

    fn fade(&mut self, ticks: u32) {
        let each = (-1.0 / TICKS_TO_HALF).exp2();
        let share = (-f64::from(ticks) / TICKS_TO_HALF).exp2();
        // Every tick adds its length, and fades with those before it.
        let ended = TICK.as_secs_f64() * each * (1.0 - share) / (1.0 - each);
        self.seconds = self.seconds * share + ended;
        let tables = &mut *self.tables;
        for table in [
            &mut tables.endpoints_by_messages,
            &mut tables.endpoints_by_bytes,
            &mut tables.channels_by_messages,
            &mut tables.channels_by_bytes,
        ] {
            table.fade(share);
        }
    }

    /// Who had most in the last seconds before `now`.
    pub(crate) fn hottest(&self, now: Duration) -> Hottest {
        let mut faded = self.clone();
        faded.turn(now);
        let began = faded.tick_ends.saturating_sub(TICK);
        let seconds = faded.seconds + now.saturating_sub(began).as_secs_f64();
        // In the first moments a few messages would make a huge rate.
        let per_second = 1.0 / seconds.max(TICK.as_secs_f64());
        let tables = &faded.tables;
        let channel = |key: u64| ChannelId(key as u32);
        Hottest {
            endpoints_by_messages: tables
                .endpoints_by_messages
                .ranking(per_second, true, EndpointId),
            endpoints_by_bytes: tables
                .endpoints_by_bytes
                .ranking(per_second, false, EndpointId),
            channels_by_messages: tables
                .channels_by_messages
                .ranking(per_second, true, channel),
            channels_by_bytes: tables.channels_by_bytes.ranking(per_second, false, channel),
            one_in: faded.one_in,
        }
    }
}

impl Table {
    /// A frame of `weight`, that stands for so many like it.
    fn add(&mut self, key: u64, weight: f64, other: f64, times: f64) {
        let known = self.keys[..self.used].iter().position(|one| *one == key);
        let at = known.unwrap_or_else(|| self.take_place(key));
        self.weights[at] += weight * times;
        self.others[at] += other * times;
        self.variances[at] += weight * weight * times * (times - 1.0);
        self.total += weight * times;
    }

    /// A place for one who has none.
    fn take_place(&mut self, key: u64) -> usize {
        let at = match self.used < PLACES {
            true => {
                self.used += 1;
                self.weights[self.used - 1] = 0.0;
                self.used - 1
            }
            false => self.least(),
        };
        self.keys[at] = key;
        self.errors[at] = self.weights[at];
        self.others[at] = 0.0;
        self.variances[at] = 0.0;
        at
    }

    fn least(&self) -> usize {
        let mut least = 0;
        for at in 1..PLACES {
            if self.weights[at] < self.weights[least] {
                least = at;
            }
        }
        least
    }

    fn fade(&mut self, share: f64) {
        self.total *= share;
        if self.total < NOTHING {
            (self.used, self.total) = (0, 0.0);
        }
        for at in 0..self.used {
            self.weights[at] *= share;
            self.errors[at] *= share;
            self.others[at] *= share;
            self.variances[at] *= share * share;
        }
    }

    fn ranking<K>(&self, per_second: f64, messages: bool, key: impl Fn(u64) -> K) -> Ranking<K> {
        let row = |at: usize| {
            let (weight, other) = (self.weights[at] * per_second, self.others[at] * per_second);
            let (messages, bytes) = match messages {
                true => (weight, other),
                false => (other, weight),
            };
            Hot {
                key: key(self.keys[at]),
                messages,
                bytes,
                too_high_max: self.errors[at] * per_second,
                spread: 2.0 * self.variances[at].sqrt() * per_second,
            }
        };
        let mut places: Vec<usize> = (0..self.used).collect();
        // Among equals by key, so that a ranking does not depend on who came first.
        places.sort_by(|a, b| {
            let greater = self.weights[*b].total_cmp(&self.weights[*a]);
            greater.then(self.keys[*a].cmp(&self.keys[*b]))
        });
        let full = self.used == PLACES;
        Ranking {
            absent_max: match places.last() {
                Some(least) if full => self.weights[*least] * per_second,
                _ => 0.0,
            },
            rows: places.into_iter().map(row).collect(),
            total: self.total * per_second,
        }
    }
}

#[cfg(test)]
#[path = "hottest_tests.rs"]
mod tests;
