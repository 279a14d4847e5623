//! Tables as bytes, and tables made of others by changes: whatever the way, the same table comes of it. Long runs:
//! `FOREBAY_TABLE_SEQUENCES=20000 FOREBAY_TABLE_MUTATIONS=2000000 cargo test -p forebay-wire --test protocol tables`; a number behind
//! a colon is the seed to begin with.

mod homes;

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use wire::route::{
    Account, Channel, Delta, DeltaError, DeltaParts, Endpoint, Grant, HeadParts, Hub, Key,
    KeyMaterial, KeyRef, Node, OnFull, Priority, QueueBounds, Rates, ReadError, Restriction,
    RouteTable, TOGETHER, TableBytes, TableError, TableParts, Transports, Window,
};
use wire::signature::{SecretKey, SigningKey};
use wire::{AckMode, ChannelId, Direction, EndpointId, Fingerprint, KeyId, NodeId, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

/// How many of something to run, and with which seed to begin.
fn asked(variable: &str, otherwise: u64) -> std::ops::Range<u64> {
    let told = std::env::var(variable).unwrap_or_else(|_| otherwise.to_string());
    let (count, seed) = told.split_once(':').unwrap_or((&told, "0"));
    let number = |text: &str| text.parse::<u64>().expect("a count, or a count and a seed");
    number(seed)..number(seed) + number(count)
}

/// What is defined, as control would have it.
#[derive(Clone)]
struct World {
    random: Rng,
    head: HeadParts,
    endpoints: BTreeMap<String, Endpoint>,
}

const NAMES: usize = 24;
/// Nodes that somebody may be at home at.
const HOMES: u32 = 2;

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Rng::with_seed(seed),
            head: HeadParts {
                queue_groups: 4,
                hubs: vec![hub(3, "a/e/main", 16), hub(9, "b/e/side", 1)],
                ..HeadParts::default()
            },
            endpoints: BTreeMap::new(),
        };
        world.turn_head();
        for _ in 0..world.random.usize(..NAMES) {
            let name = world.name();
            let endpoint = world.endpoint(&name);
            world.endpoints.insert(name, endpoint);
        }
        world
    }

    /// Another head, that has every channel a grant may name, and every home.
    fn turn_head(&mut self) {
        let random = &mut self.random;
        let channels = (0..6 + random.u32(..3)).map(|id| Channel {
            id: ChannelId(id),
            name: format!("a/e/channel{id}").into(),
            hub: random.u16(..2),
            priority: if random.bool() {
                Priority::Low
            } else {
                Priority::Normal
            },
        });
        self.head.channels = channels.collect();
        let rate = random.u32(..3);
        let account = |name: &str| Account {
            name: name.into(),
            rates: Rates {
                messages_per_second: (rate > 0).then_some(rate),
                bytes_per_second: None,
            },
        };
        self.head.accounts = vec![account("a")];
        let node = |id: u32| Node {
            id: NodeId(id),
            name: format!("node-{}", 9 - id).into(),
            address: (rate == 1).then(|| format!("host-{id}:7410").into()),
        };
        let count = HOMES + random.u32(..3);
        self.head.nodes = (0..count).map(node).collect();
    }

    fn name(&mut self) -> String {
        let account = if self.random.bool() { "a" } else { "b" };
        format!("{account}/e/{}", self.random.usize(..NAMES))
    }

    fn restriction(&mut self) -> Restriction {
        let random = &mut self.random;
        if random.bool() {
            return Restriction::default();
        }
        let range = |text: &&str| text.parse().expect("a range");
        let some = |random: &mut Rng, all: &[&'static str]| -> Vec<&'static str> {
            let mut some: Vec<_> = all.iter().copied().filter(|_| random.bool()).collect();
            random.shuffle(&mut some);
            some
        };
        Restriction {
            addresses: some(random, &["10.0.0.0/8", "::1", "192.0.2.7"])
                .iter()
                .map(range)
                .collect(),
            origins: some(random, &["https://a.example", "https://b.example"])
                .into_iter()
                .map(Box::from)
                .collect(),
            windows: windows(random),
            expires: random.bool().then_some(UnixNanos(random.u64(..3))),
            messages_per_second: random.bool().then_some(random.u32(1..4)),
            bytes_per_second: random.bool().then_some(random.u64(1..4)),
            body_bytes_max: random.bool().then_some(random.u32(1..3)),
        }
    }

    fn grants(&mut self) -> Vec<Grant> {
        let mut channels: Vec<u32> = (0..6).filter(|_| self.random.u8(..3) == 0).collect();
        self.random.shuffle(&mut channels);
        let grant = |channel| Grant {
            channel: ChannelId(channel),
            restriction: self.restriction(),
        };
        channels.into_iter().map(grant).collect()
    }

    fn key(&mut self, id: u32) -> Key {
        let random = &mut self.random;
        let egress = random.bool();
        let material = match egress || random.bool() {
            true => KeyMaterial::Symmetric(SecretKey::from_random([random.u8(..); 32])),
            false => {
                let key = SigningKey::from_bytes(&[random.u8(1..); 32]);
                KeyMaterial::Ed25519(key.verifying_key().into())
            }
        };
        Key {
            id: KeyId(id),
            name: format!("key-{id}").into(),
            direction: if egress {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            material,
            expires: random.bool().then_some(UnixNanos(random.u64(..5))),
            revoked: random.bool(),
        }
    }

    fn endpoint(&mut self, name: &str) -> Endpoint {
        let mut ids: Vec<u32> = (1..4).filter(|_| self.random.bool()).collect();
        self.random.shuffle(&mut ids);
        let keys = ids.into_iter().map(|id| self.key(id)).collect();
        let (send, receive) = (self.grants(), self.grants());
        let random = &mut self.random;
        Endpoint {
            id: EndpointId::of(name),
            name: name.into(),
            enabled: random.bool(),
            relay: random.bool(),
            keys,
            certificates: (0..random.u8(..3))
                .map(|_| Fingerprint([random.u8(..); 32]))
                .collect(),
            transports: Transports::from_bits(random.u8(..16)).expect("four bits"),
            windows: windows(random),
            expires: random.bool().then_some(UnixNanos(random.u64(..3))),
            home: Some(NodeId(random.u32(..HOMES + 1))).filter(|home| home.0 < HOMES),
            send,
            receive,
            queue: QueueBounds {
                messages_max: random.u64(1..4),
                age_max: random.bool().then_some(Duration::from_millis(1_500)),
                on_full: if random.bool() {
                    OnFull::Park
                } else {
                    OnFull::DropOldest
                },
                ..QueueBounds::default()
            },
            rates: Rates {
                messages_per_second: random.bool().then_some(7),
                bytes_per_second: random.bool().then_some(9),
            },
        }
    }

    /// A few edits, made here and told.
    fn edit(&mut self, epoch: u64) -> DeltaParts {
        let mut parts = DeltaParts {
            epoch,
            ..DeltaParts::default()
        };
        if self.random.u8(..6) == 0 {
            self.turn_head();
            parts.head = Some(self.head.clone());
        }
        for _ in 0..self.random.usize(..5) {
            let name = self.name();
            if self.random.u8(..3) == 0 {
                if let Some(gone) = self.endpoints.remove(&name) {
                    parts.gone.push(gone.id);
                }
            } else {
                let endpoint = self.endpoint(&name);
                self.endpoints.insert(name, endpoint);
            }
        }
        parts
    }

    fn parts(&self, epoch: u64) -> TableParts {
        let head = self.head.clone();
        let mut endpoints: Vec<_> = self.endpoints.values().cloned().collect();
        Rng::with_seed(epoch).shuffle(&mut endpoints);
        TableParts {
            epoch,
            queue_groups: head.queue_groups,
            hubs: head.hubs,
            channels: head.channels,
            accounts: head.accounts,
            nodes: head.nodes,
            endpoints,
        }
    }

    fn table(&self, epoch: u64) -> RouteTable {
        RouteTable::build(self.parts(epoch)).expect("it fits together")
    }

    /// The change from a world with these endpoints to this one.
    fn changes(&self, before: &BTreeMap<String, Endpoint>, mut parts: DeltaParts) -> DeltaParts {
        let new = |endpoint: &&Endpoint| before.get(&*endpoint.name) != Some(*endpoint);
        parts.set = self.endpoints.values().filter(new).cloned().collect();
        let gone = |endpoint: &&Endpoint| !self.endpoints.contains_key(&*endpoint.name);
        parts.gone = before.values().filter(gone).map(|one| one.id).collect();
        parts
    }
}

fn windows(random: &mut Rng) -> Vec<Window> {
    let window = |random: &mut Rng| {
        let from = random.u16(..600);
        let window = Window::new(random.u8(1..128), from, from + random.u16(1..600));
        window.expect("within a day")
    };
    (0..random.u8(..3)).map(|_| window(random)).collect()
}

fn hub(id: u16, name: &str, partitions: u16) -> Hub {
    Hub {
        id,
        name: name.into(),
        partitions,
        ack: AckMode::Durable,
        segment_bytes: 1 << 26,
        retention_bytes: Some(5),
        retention_age: Some(Duration::from_millis(2_500)),
    }
}

/// Every question that can be asked of a table, asked.
fn answers(table: &RouteTable) -> impl PartialEq + std::fmt::Debug {
    let endpoints: Vec<_> = table.endpoints().map(|one| one.to_parts()).collect();
    for endpoint in &endpoints {
        let index = table
            .endpoint_index(endpoint.id)
            .expect("it is in the list");
        let found = [
            table.endpoint(endpoint.id),
            table.endpoint_by_name(&endpoint.name),
            Some(table.endpoint_at(index)),
        ];
        let found = found.map(|found| found.map(|found| found.to_parts()));
        assert!(found.iter().all(|found| found.as_ref() == Some(endpoint)));
    }
    let of_name = |number| format!("{}/e/{}", ["a", "b"][number % 2], number / 2);
    let absent = (0..2 * NAMES).map(of_name).filter(|name| {
        let there = endpoints.iter().any(|endpoint| *endpoint.name == **name);
        assert_eq!(table.endpoint_by_name(name).is_some(), there, "{name}");
        assert_eq!(table.endpoint(EndpointId::of(name)).is_some(), there);
        !there
    });
    assert_eq!(endpoints.len(), table.endpoint_count());
    let named = (0..2 * NAMES).map(|number| EndpointId::of(&of_name(number)));
    together(table, &named.collect::<Vec<_>>());
    let heard = (0..9).map(|id| {
        let subscribers = table.subscribers(ChannelId(id));
        let mut names: Vec<_> = subscribers.map(|at| table.endpoint_at(at).name()).collect();
        names.sort_unstable();
        names.join(" ")
    });
    let allowances = endpoints.iter().map(|endpoint| {
        let index = table
            .endpoint_index(endpoint.id)
            .expect("it is in the list");
        let of = |id| table.allowances(index, ChannelId(id)).count();
        (table.is_rated(index), (0..6).map(of).collect::<Vec<_>>())
    });
    (
        (table.epoch(), table.digest(), table.head().clone()),
        heard.collect::<Vec<_>>(),
        allowances.collect::<Vec<_>>(),
        absent.count(),
        endpoints.clone(),
    )
}

/// Looked up many at a time these are what they are one by one, however many come at a time.
pub(crate) fn together(table: &RouteTable, ids: &[EndpointId]) {
    for count in [1, 5, TOGETHER] {
        for some in ids.chunks(count) {
            let found = table.endpoint_indexes(some);
            let one_by_one = some.iter().map(|id| table.endpoint_index(*id));
            assert!(one_by_one.eq(found.iter().copied().take(some.len())));
            assert!(found[some.len()..].iter().all(Option::is_none));
            table.touch_keys(found.into_iter().flatten());
        }
    }
}

/// What fuzzing tables begins with: how long the table is, in 16 bits, the table, a change of it.
pub(crate) fn seeds() -> impl Iterator<Item = Vec<u8>> {
    (0..4).map(|seed| {
        let mut world = World::new(seed);
        let (table, old) = (world.table(1), world.endpoints.clone());
        let parts = world.edit(2);
        let parts = world.changes(&old, parts);
        let change = table.change(parts).expect("a change of it").encode();
        let table = table.encode();
        let length = u16::try_from(table.len()).expect("a small table");
        [&length.to_le_bytes()[..], &table[..], &change[..]].concat()
    })
}

#[test]
fn the_same_table_comes_of_a_snapshot_and_of_any_sequence_of_changes() {
    let seeds = asked("FOREBAY_TABLE_SEQUENCES", 60);
    println!(
        "{} sequences from seed {}",
        seeds.end - seeds.start,
        seeds.start
    );
    for seed in seeds {
        let mut world = World::new(seed);
        let mut table = world.table(1);
        for epoch in 2..20 {
            let (before, old) = (table.clone(), world.endpoints.clone());
            let parts = world.edit(epoch);
            let parts = world.changes(&old, parts);
            let headless = parts.head.is_none();
            let delta = table.change(parts).expect("a change of it");
            let delta = Delta::read(delta.encode()).expect("as it was written");
            table = table.after(&delta).expect("it is made for it");
            let whole = world.table(epoch);
            let replay = format!(
                "FOREBAY_TABLE_SEQUENCES=1:{seed} cargo test -p forebay-wire --test protocol tables: epoch {epoch}"
            );
            assert!(answers(&table) == answers(&whole), "{replay}");
            assert_eq!(table.encode()[..], whole.encode()[..], "{replay}");
            let (bytes, at_most) = (table.encode().len() as u64, table.encoded_bytes_max());
            assert!(bytes <= at_most, "{bytes} bytes, {at_most}: {replay}");
            let changes = table.changes_since(&before);
            assert_eq!(changes.is_some(), headless, "{replay}");
            if let Some(changes) = changes {
                for endpoint in before.endpoints() {
                    let index = before.endpoint_index(endpoint.id).expect("listed");
                    let stays = table.endpoint_index(endpoint.id) == Some(index)
                        && table.endpoint_at(index) == endpoint;
                    assert_eq!(changes.has(index), !stays, "{replay}");
                }
            }
            match world.random.u8(..8) {
                0 => table = RouteTable::read(table.encode()).expect("its own bytes"),
                1 => table = table.compacted(),
                _ => {}
            }
            assert!(answers(&table) == answers(&whole), "{replay}");
        }
    }
}

#[test]
fn a_change_is_one_of_the_table_it_was_made_for_alone() {
    let world = World::new(1);
    let table = world.table(5);
    let parts = |epoch| DeltaParts {
        epoch,
        ..DeltaParts::default()
    };
    let delta = table.change(parts(6)).expect("nothing changes");
    let next = table.after(&delta).expect("of this table");
    assert_eq!((next.epoch(), next.digest()), (6, table.digest()));
    let (seen, needed) = (6, 5);
    let refused = next.after(&delta).map(drop);
    assert_eq!(refused, Err(DeltaError::Base { seen, needed }));
    let mut other = world.clone();
    other.head.queue_groups = 5;
    let refused = other.table(5).after(&delta).map(drop);
    let (seen, needed) = (5, 5);
    assert_eq!(refused, Err(DeltaError::Base { seen, needed }));
}

#[test]
fn a_change_that_contradicts_the_table_is_refused_by_name() {
    let mut world = World::new(3);
    world.endpoints.clear();
    let mut one = world.endpoint("a/e/1");
    one.send = Vec::new();
    one.receive = Vec::new();
    world.endpoints.insert("a/e/1".to_owned(), one.clone());
    let table = world.table(1);
    let refused = |parts: DeltaParts| {
        let delta = table.change(DeltaParts { epoch: 2, ..parts })?;
        table.after(&delta).map(drop)
    };
    let set = |endpoint: Endpoint| DeltaParts {
        set: vec![endpoint],
        ..DeltaParts::default()
    };
    let id = EndpointId(77);
    let renamed = Endpoint {
        name: "a/e/2".into(),
        ..one.clone()
    };
    let twice = TableError::IdTwice("endpoints", "a/e/1".into(), "a/e/2".into(), one.id.0);
    assert_eq!(refused(set(renamed.clone())), Err(twice.into()));
    let other_id = Endpoint { id, ..one.clone() };
    let twice = TableError::NameTwice("endpoints", "a/e/1".into());
    assert_eq!(refused(set(other_id)), Err(twice.into()));
    let gone = DeltaParts {
        gone: vec![id],
        ..DeltaParts::default()
    };
    assert_eq!(refused(gone), Err(DeltaError::NotThere(id)));
    let mut lost = one.clone();
    lost.send = vec![Grant {
        channel: ChannelId(99),
        restriction: Restriction::default(),
    }];
    let none = TableError::NoChannel("a/e/1".into(), ChannelId(99));
    assert_eq!(refused(set(lost)), Err(none.into()));
    let instead = DeltaParts {
        gone: vec![one.id],
        ..set(renamed)
    };
    assert_eq!(refused(instead), Ok(()), "one goes, another has its id");
}

#[test]
fn two_new_endpoints_of_one_name_are_refused_wherever_they_come_from() {
    let mut world = World::new(3);
    world.endpoints.clear();
    let table = world.table(1);
    let mut named = |name: &str, id| Endpoint {
        id: EndpointId(id),
        ..world.endpoint(name)
    };
    let change = |table: &RouteTable, epoch, set: Vec<Endpoint>| {
        let parts = DeltaParts {
            epoch,
            set,
            ..DeltaParts::default()
        };
        table.after(&table.change(parts)?)
    };
    let before = vec![named("a", 1), named("m", 5)];
    let table = change(&table, 2, before).expect("two names");
    let twice = TableError::NameTwice("endpoints", "m".into());
    for others in [vec![], vec![named("b", 2), named("c", 3)]] {
        let set = [others, vec![named("m", 8)]].concat();
        let refused = change(&table, 3, set).map(drop);
        assert_eq!(refused, Err(twice.clone().into()));
    }
}

#[test]
fn a_change_leads_forward() {
    let table = World::new(1).table(5);
    for made in [0, 4, 5] {
        let parts = DeltaParts {
            epoch: made,
            ..DeltaParts::default()
        };
        let delta = table.change(parts).expect("nothing changes");
        let refused = table.after(&delta).map(drop);
        assert_eq!(refused, Err(DeltaError::Epoch { seen: 5, made }));
    }
}

#[test]
fn many_heads_are_not_kept() {
    let world = World::new(4);
    let mut table = world.table(1);
    let mut head = world.head.clone();
    let mut longest = 0;
    for epoch in 2..400 {
        let mut channel = head.channels[0].clone();
        channel.id = ChannelId(epoch as u32 + 100);
        channel.name = format!("a/e/one-of-many-channels-{epoch}").into();
        head.channels.push(channel);
        let delta = table.change(DeltaParts {
            epoch,
            head: Some(head.clone()),
            ..DeltaParts::default()
        });
        let delta = delta.expect("a change");
        longest = longest.max(delta.encode().len());
        table = table.after(&delta).expect("it fits");
    }
    let beside = table.memory_bytes() - table.compacted().memory_bytes().min(table.memory_bytes());
    assert!(
        beside < 4 * longest,
        "{beside} bytes beside the base, heads of {longest}"
    );
}

#[test]
fn changes_that_are_long_are_worth_a_new_base() {
    let mut world = World::new(5);
    world.endpoints.clear();
    let mut table = world.table(1);
    let mut one = world.endpoint("a/e/1");
    (one.send, one.receive) = (Vec::new(), Vec::new());
    one.certificates = (0..u16::MAX)
        .map(|at| Fingerprint([at as u8; 32]))
        .collect();
    for epoch in 2..6 {
        assert!(!table.is_loose());
        one.relay = !one.relay;
        let delta = table.change(DeltaParts {
            epoch,
            set: vec![one.clone()],
            ..DeltaParts::default()
        });
        table = table.after(&delta.expect("a change")).expect("it fits");
    }
    assert!(table.is_loose(), "8 MiB of changes of nothing");
    assert!(!table.compacted().is_loose());
}

#[test]
fn a_public_key_that_is_none_is_read_and_never_good() {
    let mut world = World::new(6);
    world.endpoints.clear();
    let mut one = world.endpoint("a/e/1");
    let pair = SigningKey::from_bytes(&[9; 32]);
    one.keys = vec![Key {
        id: KeyId(1),
        name: "public".into(),
        direction: Direction::Ingress,
        material: KeyMaterial::Ed25519(pair.verifying_key().into()),
        expires: None,
        revoked: false,
    }];
    world.endpoints.insert("a/e/1".to_owned(), one);
    let good = world.table(1).encode().to_vec();
    let public = pair.verifying_key().to_bytes();
    let at = good.windows(32).position(|bytes| *bytes == public);
    let at = at.expect("it is among the keys");
    for (bytes, is_one) in [(public, true), ([2; 32], false), ([0; 32], false)] {
        let mut written = good.clone();
        written[at..at + 32].copy_from_slice(&bytes);
        let table = RouteTable::read(TableBytes::from(checked(written))).expect("32 bytes");
        let endpoint = table.endpoint_by_name("a/e/1").expect("there");
        let key = endpoint.keys.at(0);
        let KeyRef::Ed25519(key) = key.material else {
            panic!("{key:?}");
        };
        assert_eq!(key.point().is_some(), is_one);
        assert_eq!(table.compacted().encode()[..], table.encode()[..]);
    }
}

#[test]
fn a_channel_that_somebody_is_granted_does_not_go() {
    let mut world = World::new(4);
    let mut one = world.endpoint("a/e/1");
    let grant = |channel| Grant {
        channel: ChannelId(channel),
        restriction: Restriction::default(),
    };
    (one.send, one.receive) = (vec![grant(2)], vec![grant(3)]);
    world.endpoints = BTreeMap::from([("a/e/1".to_owned(), one)]);
    let table = world.table(1);
    for (id, goes) in [(0, true), (2, false), (3, false)] {
        let mut head = world.head.clone();
        head.channels.retain(|channel| channel.id != ChannelId(id));
        let delta = table.change(DeltaParts {
            epoch: 2,
            head: Some(head),
            ..DeltaParts::default()
        });
        let after = table.after(&delta.expect("a change")).map(drop);
        let kept = TableError::NoChannel("a/e/1".into(), ChannelId(id));
        assert_eq!(after, if goes { Ok(()) } else { Err(kept.into()) });
    }
}

/// Put the right checksum over whatever the bytes are.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= 16 {
        let checksum = xxh3_64(&bytes[16..]);
        bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

fn spoil(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..=random.usize(..3) {
        let at = random.usize(..bytes.len());
        match random.u8(..8) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, random.u8(..)),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] = 0xFF,
            4 => bytes[at] = bytes[at].wrapping_add(1),
            // Lengths and places are where most can go wrong.
            5 => {
                let at = at % 160;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
            _ => bytes[at] ^= 1 << random.u8(..8),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn bytes_that_anybody_may_have_written_are_refused_or_are_a_table_that_answers() {
    let seeds = asked("FOREBAY_TABLE_MUTATIONS", 6_000);
    println!(
        "{} mutations from seed {}",
        seeds.end - seeds.start,
        seeds.start
    );
    let mut world = World::new(7);
    let table = world.table(1);
    let old = world.endpoints.clone();
    let parts = world.edit(2);
    let parts = world.changes(&old, parts);
    let delta = table.change(parts).expect("a change of it");
    let (mut read, mut refused) = (0, 0);
    for seed in seeds {
        let mut random = Rng::with_seed(seed);
        let (mut bytes, whole) = match random.bool() {
            true => (table.encode().to_vec(), true),
            false => (delta.encode().to_vec(), false),
        };
        spoil(&mut bytes, &mut random);
        let bytes = TableBytes::from(checked(bytes));
        let taken = match whole {
            true => RouteTable::read(bytes).map(|table| ask_all(&table)),
            false => Delta::read(bytes).map(|delta| {
                let base = (delta.base_epoch(), delta.base_digest());
                if base == (table.epoch(), table.digest())
                    && let Ok(after) = table.after(&delta)
                {
                    ask_all(&after);
                }
            }),
        };
        match taken {
            Ok(()) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        read + refused < 1_000 || (read > 0 && refused > read),
        "{read} {refused}"
    );
}

/// Look at everything; nothing is known of it.
fn ask_all(table: &RouteTable) {
    let endpoints: Vec<_> = table.endpoints().map(|one| one.to_parts()).collect();
    for endpoint in &endpoints {
        assert!(table.endpoint(endpoint.id).is_some());
        assert!(table.endpoint_by_name(&endpoint.name).is_some());
    }
    for channel in table.channels() {
        assert_eq!(table.channel(channel.id), Some(channel));
        assert!(table.hub_of(channel).partitions > 0);
        let all = table.subscribers(channel.id);
        assert!(all.count() <= endpoints.len());
    }
    assert_eq!(table.compacted().endpoint_count(), endpoints.len());
}

#[test]
fn what_is_no_table_is_refused_by_what_is_wrong_with_it() {
    let table = World::new(2).table(9);
    let good = table.encode().to_vec();
    let read = |bytes: Vec<u8>| RouteTable::read(TableBytes::from(bytes)).map(drop);
    assert_eq!(read(good.clone()), Ok(()));
    assert_eq!(read(Vec::new()), Err(ReadError::Magic));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(read(with(0, b'G')), Err(ReadError::Magic));
    assert_eq!(read(with(16, 9)), Err(ReadError::Version(9)));
    assert_eq!(read(with(18, 2)), Err(ReadError::Kind(2, 1)));
    let last = good.len() - 1;
    assert_eq!(read(with(last, b'~')), Err(ReadError::Checksum));
    let short = good[..last].to_vec();
    let lengths = ReadError::Length(last as u64, good.len() as u64);
    assert_eq!(read(short), Err(lengths));
    assert_eq!(
        Delta::read(table.encode()).map(drop),
        Err(ReadError::Kind(1, 2))
    );
}
