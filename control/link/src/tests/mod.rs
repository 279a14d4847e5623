//! Both sides over real connections on the loopback address.

mod disk;
mod pasts;
mod strangers;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::diagnosis::*;
use crate::frame::{Frame, PROTOCOL, Payload};
use crate::pipe::Pipe;
use crate::*;
pub(crate) use world::numbered;
use world::*;

const LONG: Duration = Duration::from_secs(120);
/// Any port of this machine.
const ANY: &str = "127.0.0.1:0";

struct Control {
    fleet: Fleet,
    server: Credentials<tls::LinkServer>,
    listening: Listening,
    told: Arc<Told>,
}

impl Control {
    fn at(address: &str, authority: &Authority, names: &[&str], heartbeat: Duration) -> Self {
        let names = names.iter().map(|name| (*name).to_owned());
        let fleet = Fleet::new(names, vec![[1; 16]]);
        let told = Arc::new(Told::default());
        let address: SocketAddr = address.parse().expect("an address");
        let server = Credentials::new(authority.control());
        let (server_too, tell) = (server.clone(), told.clone());
        let listening = listen(address, server_too, fleet.clone(), heartbeat, tell);
        Self {
            fleet,
            server,
            listening: listening.expect("a free port"),
            told,
        }
    }

    fn new(authority: &Authority, names: &[&str]) -> Self {
        Self::at(ANY, authority, names, SLOW)
    }

    fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    fn complete(&self, epoch: u64) {
        let nodes = self.fleet.wait(epoch, LONG);
        let all = nodes.iter().all(|node| node.applied == node.shards);
        assert!(all, "{nodes:?}\n{}", self.told.all());
    }
}

/// A node called `north`: its authority, and the folder of its table.
struct North {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl North {
    fn new() -> Self {
        Self {
            authority: Authority::new(),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// A control plane for it, where another one was, or at any port.
    fn control(&self, address: &str, heartbeat: Duration) -> Control {
        Control::at(address, &self.authority, &["north"], heartbeat)
    }

    fn client(&self) -> tls::LinkClient {
        self.authority.node("north", &self.authority)
    }

    fn how(&self, address: SocketAddr) -> Follow {
        how("north", address, self.client(), self.folder.path())
    }

    fn start(&self, address: SocketAddr) -> Running {
        start_as(self.how(address))
    }

    /// What it has on disk.
    fn kept(&self) -> Version {
        let (_, kept) = Kept::open(self.folder.path()).expect("readable");
        kept.expect("kept").version()
    }
}

/// A control plane that begins with this, and a node that has it.
fn begun(heartbeat: Duration, first: Newest) -> (North, Control, Running) {
    let north = North::new();
    let control = north.control(ANY, heartbeat);
    let epoch = first.version.epoch;
    control.fleet.publish(first);
    let node = north.start(control.address());
    control.complete(epoch);
    (north, control, node)
}

fn texts(running: &Running) -> Vec<String> {
    running.node.0.lock().expect("whole").in_force.clone()
}

#[test]
fn a_link_that_is_let_go_of_lets_its_node_go_whatever_its_shards_are_behind_with() {
    for (why, busy, behind) in [("commands", usize::MAX, false), ("tables", 0, true)] {
        let (_north, control, node) = begun(SLOW, newest(1, "", "a"));
        let Running { node, followed, .. } = node;
        {
            let mut held = node.0.lock().expect("whole");
            (held.busy, held.behind) = (busy, behind);
        }
        control.fleet.publish(newest(2, "a", "b"));
        until("it is at it", || {
            let held = node.0.lock().expect("whole");
            held.busy < busy || held.in_force.len() == 2
        });
        followed.end();
        until(why, || Arc::strong_count(&node.0) == 1);
    }
}

#[test]
fn every_node_gets_the_whole_table_once_and_then_what_changes() {
    let authority = Authority::new();
    let control = Control::new(&authority, &["north", "south"]);
    control.fleet.publish(newest(1, "", "a"));
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let nodes: Vec<Running> = ["north", "south"]
        .into_iter()
        .zip(&folders)
        .map(|(name, folder)| {
            let client = authority.node(name, &authority);
            start(name, control.address(), client, folder.path())
        })
        .collect();
    control.complete(1);
    let mut text = "a".to_owned();
    for epoch in 2..40 {
        let added = format!(" {epoch}");
        control.fleet.publish(newest(epoch, &text, &added));
        text.push_str(&added);
        if epoch % 7 == 0 {
            control.complete(epoch);
        }
    }
    control.complete(39);
    for node in &nodes {
        assert_eq!(texts(node).last(), Some(&text));
        assert!(
            texts(node).iter().all(|one| text.starts_with(one)),
            "in order"
        );
    }
    until("both are current", || {
        control.fleet.seen().iter().all(|node| node.current)
    });
    for node in control.fleet.seen() {
        assert_eq!((node.snapshots, node.deltas, node.connected), (1, 38, true));
        assert_eq!((node.shards, node.kept), (vec![39, 39], 39));
    }
    for node in nodes {
        until("its table is fresh", || {
            let (connected, freshness) = node.followed.state();
            connected && freshness.age(Moment::now()) < LONG
        });
        node.followed.end();
    }
    until("both are gone", || {
        control.fleet.seen().iter().all(|node| !node.connected)
    });
    control.listening.end();
}

#[test]
fn who_is_not_known_or_shows_another_certificate_gets_nothing_and_both_sides_say_the_same_code() {
    let (authority, other) = (Authority::new(), Authority::new());
    let control = Control::new(&authority, &["north"]);
    control.fleet.publish(newest(1, "", "secret"));
    let folder = tempfile::tempdir().expect("a folder");
    for (why, name, client, codes) in [
        (
            "unknown",
            "east",
            authority.node("east", &authority),
            [LINK_UNKNOWN_NODE; 2],
        ),
        (
            "another's",
            "north",
            authority.node("east", &authority),
            [LINK_WRONG_NAME; 2],
        ),
        (
            "another authority's",
            "north",
            other.node("north", &authority),
            [LINK_UNTRUSTED; 2],
        ),
        (
            "not for clients",
            "north",
            authority.impostor("north"),
            [LINK_UNTRUSTED; 2],
        ),
        (
            "trusts another",
            "north",
            authority.node("north", &other),
            [LINK_UNTRUSTED; 2],
        ),
    ] {
        let told = Arc::new(Told::default());
        let mut follow_as = how(name, control.address(), client, folder.path());
        follow_as.tell = told.clone();
        let followed = follow(follow_as).expect("a thread");
        let [here, there] = codes.map(|code| format!("FB-{code}"));
        until(why, || told.has("control_lost", &there));
        until(why, || control.told.has("node_refused", &here));
        followed.end();
    }
    let seen = control.fleet.seen();
    assert_eq!(
        (seen.len(), seen[0].connected, seen[0].snapshots),
        (1, false, 0)
    );
}

/// One answer of control to these frames.
fn converse(control: &Control, client: &tls::LinkClient, said: &[Frame]) -> Result<Frame, u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let stream = TcpStream::connect(control.address())
            .await
            .expect("it listens");
        let tunnel = client.tunnel().expect("random bytes");
        let mut pipe = Pipe::shake(stream, tunnel).await.expect("both trust");
        for frame in said {
            pipe.send(frame).await.expect("sent");
        }
        let mut answer = pipe.receive().await;
        // Behind WELCOME comes what ends the connection, here.
        while let Ok(
            Frame::Welcome { .. } | Frame::Ping { .. } | Frame::Begin { .. } | Frame::Chunk(_),
        ) = answer
        {
            answer = pipe.receive().await;
        }
        answer.map_err(|ended| ended.code)
    })
}

#[test]
fn a_node_of_another_version_or_that_says_what_has_no_place_is_refused_by_name() {
    let authority = Authority::new();
    let control = Control::new(&authority, &["north"]);
    control.fleet.publish(newest(1, "", "secret"));
    let client = authority.node("north", &authority);
    let hello = |protocol| Frame::Hello {
        protocol,
        name: "north".into(),
        shards: 1,
        has: None,
    };
    let ping = Frame::Ping {
        newest: Version::default(),
        answers: 0,
    };
    for (said, want) in [
        (vec![hello(PROTOCOL + 1)], LINK_VERSION),
        (vec![hello(PROTOCOL), ping], LINK_MALFORMED),
        (vec![hello(PROTOCOL), hello(PROTOCOL)], LINK_MALFORMED),
    ] {
        match converse(&control, &client, &said) {
            Ok(Frame::Refused { code, .. }) => assert_eq!(code, want),
            other => panic!("{other:?} instead of {want}"),
        }
    }
    let quick = Control::at(ANY, &authority, &["north"], FAST);
    match converse(&quick, &client, &[hello(PROTOCOL)]) {
        Ok(Frame::Refused { code, .. }) => assert_eq!(code, LINK_SILENT),
        other => panic!("{other:?} to one that says nothing more"),
    }
    assert!(quick.told.has("node_left", &format!("FB-{LINK_SILENT}")));
}

#[test]
fn the_later_connection_of_a_name_counts() {
    let (north, control, first) = begun(FAST, newest(1, "", "a"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut again = north.how(control.address());
    again.folder = elsewhere.path().to_owned();
    let second = start_as(again);
    let replaced = format!("FB-{LINK_REPLACED}");
    until("the first hears that", || {
        first.told.has("control_lost", &replaced)
    });
    first.followed.end();
    control.fleet.publish(newest(2, "a", "b"));
    control.complete(2);
    assert_eq!(texts(&second).last().map(String::as_str), Some("ab"));
}

#[test]
fn a_node_goes_on_while_control_is_away_and_gets_what_it_missed_when_it_is_back() {
    let (north, control, node) = begun(SLOW, newest(1, "", "a"));
    let (address, place) = (control.address(), control.address().to_string());
    control.fleet.publish(newest(2, "a", "b"));
    control.complete(2);
    control.listening.end();
    until("it notices", || !node.followed.state().0);
    assert_eq!(
        texts(&node).last().map(String::as_str),
        Some("ab"),
        "it goes on"
    );
    // A control plane that starts again has the table it had, and no deltas that led to it.
    let control = north.control(&place, SLOW);
    control.fleet.publish(newest(2, "a", "b"));
    control.fleet.publish(newest(3, "ab", "c"));
    control.complete(3);
    assert_eq!(control.fleet.seen()[0].snapshots, 0, "deltas go on");
    control.listening.end();
    let control = north.control(&place, SLOW);
    control.fleet.publish(Newest {
        delta: None,
        ..newest(9, "abcdefg", "h")
    });
    control.complete(9);
    assert_eq!(control.fleet.seen()[0].snapshots, 1, "the gap is too wide");
    assert_eq!(texts(&node).last().map(String::as_str), Some("abcdefgh"));
    // It ends, and starts while control is away: from its disk.
    node.followed.end();
    control.fleet.publish(newest(10, "abcdefgh", "i"));
    control.listening.end();
    let node = north.start(address);
    assert_eq!(texts(&node), ["abcdefgh"]);
    let control = north.control(&place, SLOW);
    control.fleet.publish(newest(9, "abcdefg", "h"));
    control.fleet.publish(newest(10, "abcdefgh", "i"));
    control.complete(10);
    assert_eq!(control.fleet.seen()[0].snapshots, 0);
    // And again with a delta behind the snapshot on disk.
    node.followed.end();
    control.listening.end();
    let node = north.start(address);
    assert_eq!(texts(&node), ["abcdefghi"]);
}

#[test]
fn shards_that_are_behind_are_asked_again_and_a_refused_table_is_told_until_one_is_taken() {
    let (north, control, node) = begun(SLOW, newest(1, "", "a"));
    node.node.0.lock().expect("whole").busy = 3;
    control.fleet.publish(newest(2, "a", "b"));
    control.complete(2);
    node.node.0.lock().expect("whole").refuse = true;
    control.fleet.publish(newest(3, "ab", "c"));
    let code = Some(format!("FB-{TABLE_UNFIT}"));
    until("it is told", || control.fleet.seen()[0].refused == code);
    let seen = control.fleet.seen();
    assert_eq!((&seen[0].shards, seen[0].current), (&vec![2, 2], false));
    let progress = control.fleet.wait(3, Duration::ZERO);
    assert_eq!((progress[0].shards, progress[0].applied), (2, 0));
    node.node.0.lock().expect("whole").refuse = false;
    control.fleet.publish(newest(4, "abc", "d"));
    control.complete(4);
    assert_eq!(control.fleet.seen()[0].refused, None);
    assert_eq!(texts(&node), ["a", "ab", "abcd"]);
    assert_eq!(north.kept(), version(4, "abcd"));
}

#[test]
fn a_great_table_comes_in_pieces() {
    let text = "0123456789abcdef".repeat(200_000);
    let (_north, control, node) = begun(SLOW, newest(1, "", &text));
    let added = "fedcba9876543210".repeat(50_000);
    control.fleet.publish(newest(2, &text, &added));
    control.complete(2);
    let last = texts(&node).pop();
    assert_eq!(last, Some(format!("{text}{added}")));
    assert_eq!(control.fleet.seen()[0].deltas, 1);
}

#[test]
fn chunks_that_were_not_begun_or_are_too_many_end_the_link() {
    // A control plane that is not ours: whatever it says, a node refuses what has no place.
    let begin = |bytes| Frame::Begin {
        payload: Payload::Snapshot,
        becomes: version(1, "a"),
        bytes,
    };
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    for (why, said) in [
        ("not begun", vec![Frame::Chunk(vec![1])]),
        ("too much", vec![begin(2), Frame::Chunk(vec![1, 2, 3])]),
        ("begun twice", vec![begin(2), begin(2)]),
        ("a node's frame", vec![Frame::Resync { code: 1 }]),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("bound");
        let client = authority.node("north", &authority);
        let told = Arc::new(Told::default());
        let mut follow_as = how("north", address, client, folder.path());
        follow_as.tell = told.clone();
        let followed = follow(follow_as).expect("a thread");
        let server = authority.control();
        runtime.block_on(async {
            let (stream, _) = listener.accept().await.expect("it connects");
            let tunnel = server.tunnel().expect("random bytes");
            let mut pipe = Pipe::shake(stream, tunnel).await.expect("both trust");
            assert!(matches!(pipe.receive().await, Ok(Frame::Hello { .. })));
            let welcome = Frame::Welcome {
                heartbeat_ms: 10_000,
            };
            pipe.send(&welcome).await.expect("sent");
            for frame in &said {
                pipe.send(frame).await.expect("sent");
            }
            while pipe.receive().await.is_ok() {}
        });
        let malformed = format!("FB-{LINK_MALFORMED}");
        until(why, || told.has("control_lost", &malformed));
        followed.end();
    }
}
