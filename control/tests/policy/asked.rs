//! A plan, its node, and the questions that are put to both.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::allowances::{Admitted, Allowances, Frame};
use super::changes::change;
use super::node::{Done, Node, Open};
use super::plan::{BEGIN, Defined, NODES, defined};
use super::questions::{self, bodies, channel, edges, next_moment};
use super::queues::Queues;
use super::reference::{Fail, Fails, Proof, Question, Way, fails};
use super::sessions::Kept;
use super::support::{Delivered, Said};
use super::told::{checks, names_one, refusals};
use wire::delivery::{Outcome, Source};

/// Sessions that are kept at once.
const KEPT: usize = 8;
const SECOND: u128 = 1_000_000_000;
/// A log of another shard, which datagrams do not reach; a session that is none any more.
const ELSEWHERE: u16 = 1124;
const UNKNOWN: u16 = 1111;
/// The key or the endpoint of an open session was withdrawn.
const WITHDRAWN: u16 = 1706;

/// What was asked, and how often it was answered how.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    allowed: u64,
    of_open_sessions: u64,
    resumed: u64,
    ended: u64,
    changes: u64,
    delivered: u64,
    /// Rounding decides about a rate.
    unsure: u64,
    why_not: BTreeMap<Fail, u64>,
}

impl Counts {
    /// Nothing is left out, where there was room for all of it.
    pub(crate) fn check(&self) {
        if self.asked < 3_000 {
            return;
        }
        let asked = self.asked;
        assert!(self.allowed * 20 > asked, "{} are allowed", self.allowed);
        assert!(self.unsure * 50 < asked, "{} are unsure", self.unsure);
        for (what, count) in [
            ("open sessions", self.of_open_sessions),
            ("resumed", self.resumed),
            ("ended", self.ended),
            ("changes", self.changes),
            ("delivered", self.delivered),
        ] {
            assert!(count * 200 > asked, "{what}: {count} of {asked}");
        }
        assert!(
            asked < 100_000 || self.why_not.len() == 26,
            "each rule refuses something: {:?}",
            self.why_not
        );
    }
}

/// One plan under questions.
pub(crate) struct Asked {
    seed: u64,
    random: Rng,
    defined: Defined,
    node: Node,
    /// Nanoseconds since 1970.
    now: u128,
    kept: Vec<Kept>,
    queues: Queues,
    allowances: Allowances,
    /// What happened last, for who has to find a fault.
    last: &'static str,
}

impl Asked {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let shards = random.u16(2..5);
        let defined = defined(&mut random);
        let node = Node::new(&defined, shards, BEGIN);
        let mut asked = Self {
            seed,
            random,
            defined,
            node,
            now: u128::from(BEGIN) * SECOND,
            kept: Vec::new(),
            queues: Queues::default(),
            allowances: Allowances::default(),
            last: "nothing",
        };
        asked.node.set_time(asked.now);
        asked
    }

    /// A planted fault: the node serves everybody, wherever they are at home.
    pub(crate) fn ignore_homes(&mut self) {
        self.node.ignore_homes();
    }

    fn at(&self) -> u64 {
        u64::try_from(self.now / SECOND).expect("a time of this century")
    }

    fn again(&self) -> String {
        format!(
            "after: {}\nagain: FOREBAY_POLICY_SEED={} FOREBAY_POLICY_QUESTIONS=250 cargo test -p forebay-control --test policy",
            self.last, self.seed
        )
    }

    pub(crate) fn ask(&mut self, count: u64, counts: &mut Counts) {
        for _ in 0..count {
            counts.asked += 1;
            let (until, about) = next_moment(&mut self.random, &self.defined, self.now);
            self.travel(until, counts);
            if self.random.u8(..6) == 0 {
                self.change(counts);
            }
            match self.random.u8(..8) {
                0..3 if !self.kept.is_empty() => self.ask_kept(counts),
                _ => self.ask_fresh(about, counts),
            }
            self.pump(counts);
        }
    }

    /// Let time pass; every second at which a session may have to end is looked at.
    fn travel(&mut self, until: u128, counts: &mut Counts) {
        let (from, to) = (self.at(), u64::try_from(until / SECOND).expect("a time"));
        let of_kept = |kept: &Kept| {
            let mut edges = edges(&self.defined.endpoints[kept.by.endpoint], from, to);
            let token = kept.token_ends();
            edges.extend(token.filter(|end| (from + 1..=to).contains(end)));
            edges
        };
        let mut stops: Vec<u64> = self.kept.iter().flat_map(of_kept).collect();
        stops.sort_unstable();
        stops.dedup();
        for stop in stops.into_iter().map(|stop| u128::from(stop) * SECOND) {
            self.now = stop;
            self.node.set_time(stop);
            self.look(counts);
        }
        if until > self.now {
            self.now = until;
            self.node.set_time(until);
            self.look(counts);
        }
    }

    fn change(&mut self, counts: &mut Counts) {
        let at = self.at();
        let names: Vec<String> = self.defined.channels.keys().cloned().collect();
        let before: Vec<_> = names
            .iter()
            .map(|name| self.node.channel_of(name))
            .collect();
        self.last = change(&mut self.random, &mut self.defined, &mut self.node, at);
        self.node.hand_over_table();
        counts.changes += 1;
        for (name, before) in names.iter().zip(before) {
            // With another id it is another channel, whatever its name.
            if self.node.channel_of(name) != before {
                self.allowances.forget(name);
            }
        }
        self.allowances
            .keep(&self.defined.endpoints, &self.defined.accounts);
        self.look(counts);
    }

    /// Every session is there, or is not, as the documents say.
    fn look(&mut self, counts: &mut Counts) {
        let at = self.at();
        let channels = &self.defined.channels;
        let place = |name: &str| Some((self.node.channel_of(name), channels.get(name)?.hub));
        self.queues.look(&self.defined.endpoints, place, at);
        for which in (0..self.kept.len()).rev() {
            let fails = self.kept[which].fails(&self.defined, at);
            if !self.kept[which].connected {
                self.kept[which].unsure |= !fails.is_empty();
                continue;
            }
            let said = self.read(which, counts);
            let told = refusals(&said);
            let shown = |kept: &Kept| {
                format!(
                    "at {at}: {:?}\nof {:#?}\n{}",
                    kept.by,
                    self.defined.endpoints[kept.by.endpoint],
                    self.again()
                )
            };
            let ended = said.iter().any(|said| matches!(said, Said::Goaway(_)));
            let kept = &self.kept[which];
            assert_eq!(
                ended,
                !fails.is_empty(),
                "a session that {fails:?}: {said:?}\n{}",
                shown(kept)
            );
            if ended {
                let named = told.contains(&WITHDRAWN) || names_one(&said, &fails);
                assert!(named, "{fails:?}: {said:?}\n{}", shown(kept));
                let kept = self.kept.swap_remove(which);
                self.node.cut(&kept.open);
                counts.ended += 1;
            }
        }
    }

    /// What a session was told; deliveries are taken and settled.
    fn read(&mut self, which: usize, counts: &mut Counts) -> Vec<Said> {
        let said = self.node.read(&mut self.kept[which].open);
        let endpoint = self.kept[which].by.endpoint;
        let (at, again) = (self.at(), self.again());
        let delivered = deliveries(&said);
        let taken = self
            .queues
            .take(&self.defined.endpoints, endpoint, &delivered, at);
        taken.unwrap_or_else(|fault| {
            panic!(
                "{fault}\n{:#?}\n{again}",
                self.defined.endpoints[endpoint].grants
            )
        });
        counts.delivered += delivered.len() as u64;
        self.node.settled(&mut self.kept[which].open, &delivered);
        said
    }

    /// Who hears gets everything at once.
    fn pump(&mut self, counts: &mut Counts) {
        for which in 0..self.kept.len() {
            if self.kept[which].connected && !self.kept[which].by.sends {
                let said = self.read(which, counts);
                assert_eq!(refusals(&said), [0; 0], "{}", self.again());
                let missing = self.queues.missing(self.kept[which].by.endpoint);
                assert_eq!(missing, 0, "{:?}\n{}", self.kept[which].by, self.again());
            }
        }
    }

    /// Those of the same endpoint and direction lose their connection: the newest session has its streams, or its queue.
    fn part(&mut self, endpoint: usize, sends: bool) {
        for kept in &mut self.kept {
            let same = kept.by.endpoint == endpoint && kept.by.sends == sends;
            if kept.connected && same {
                self.node.cut(&kept.open);
                kept.connected = false;
            }
        }
    }

    fn ask_fresh(&mut self, about: Option<usize>, counts: &mut Counts) {
        let at = self.at();
        let question = questions::question(&mut self.random, &self.defined, at, about);
        let door = self.random.usize(..self.node.shards.len());
        let want = fails(&self.defined.endpoints[question.endpoint], &question);
        self.ask_why(&question, &want);
        if question.way == Way::Relayed {
            let done = self.node.relay(&self.defined, &question, door);
            let taken = self.settle_sent(&question, want, done, counts);
            if taken {
                // Who was refused a number that came by another way now would wait for it.
                for kept in self.kept.iter_mut().filter(|kept| kept.refused) {
                    if kept.connected && kept.by.endpoint == question.endpoint {
                        self.node.cut(&kept.open);
                        kept.connected = false;
                    }
                }
            }
            return;
        }
        // The key says of which direction the session is, whatever it is for.
        let keys = &self.defined.endpoints[question.endpoint].keys;
        let key = keys.iter().find(|key| key.id == question.key);
        self.part(
            question.endpoint,
            key.map_or(question.sends, |key| key.sends),
        );
        let opened = self.node.open(&self.defined, &question, door);
        self.go_on(question, want, opened, counts);
    }

    /// A session was asked for: go on with what it was for.
    fn go_on(
        &mut self,
        question: Question,
        want: Fails,
        opened: Result<(Open, Vec<Said>), Vec<Said>>,
        counts: &mut Counts,
    ) {
        let (mut open, said) = match opened {
            Ok(opened) => opened,
            Err(said) => {
                self.settle_done(&question, &want, Err(said), counts);
                return;
            }
        };
        let mut refused = false;
        if question.sends {
            let done = self.node.send(&self.defined, &mut open, &question);
            refused = done.is_err();
            self.settle_sent(&question, want, done, counts);
        } else {
            let answers = self.node.hear(&mut open, &question.channel, &said);
            let delivered = deliveries(&answers);
            let at = self.at();
            let taken =
                self.queues
                    .take(&self.defined.endpoints, question.endpoint, &delivered, at);
            taken.unwrap_or_else(|fault| panic!("{fault}\n{question:?}\n{}", self.again()));
            counts.delivered += delivered.len() as u64;
            self.node.settled(&mut open, &delivered);
            let not = |said: &Said| !matches!(said, Said::Deliver(..));
            let rest: Vec<Said> = answers.into_iter().filter(not).collect();
            let done = if rest.is_empty() { Ok(()) } else { Err(rest) };
            self.settle_done(&question, &want, done, counts);
        }
        let mut kept = Kept::new(open, &question, &self.defined);
        kept.refused = refused;
        let good = kept.fails(&self.defined, self.at()).is_empty();
        if !good || question.poses_as.is_some() || self.random.u8(..2) == 0 {
            self.node.cut(&kept.open);
            return;
        }
        if self.kept.len() == KEPT {
            let which = self.random.usize(..KEPT);
            let gone = self.kept.swap_remove(which);
            self.node.cut(&gone.open);
        }
        self.kept.push(kept);
    }

    /// On a session that is open, or by taking one up that is not.
    fn ask_kept(&mut self, counts: &mut Counts) {
        let (at, which) = (self.at(), self.random.usize(..self.kept.len()));
        let by = &self.kept[which].by;
        let endpoint = &self.defined.endpoints[by.endpoint];
        let channel = channel(&mut self.random, endpoint, by.sends);
        let bodies = bodies(&mut self.random, endpoint);
        let mut question = self.kept[which].question(channel, bodies, at);
        if !self.kept[which].connected || !question.sends {
            let ways = [Way::Tcp, Way::Tls, Way::Quic, question.way];
            question.way = ways[self.random.usize(..4)];
            let tunnel = question.way != Way::Tcp;
            question.certificate = (tunnel && self.random.bool()).then(|| self.random.u8(1..4));
            self.take_up(which, question, counts);
            return;
        }
        counts.of_open_sessions += 1;
        let endpoint = &self.defined.endpoints[question.endpoint];
        let want = fails(endpoint, &question);
        let kept = &mut self.kept[which];
        let elsewhere = kept.open.is_elsewhere(&self.node, &question);
        let done = self.node.send(&self.defined, &mut kept.open, &question);
        kept.refused |= done.is_err();
        if elsewhere && want.is_empty() {
            let said = done.expect_err("datagrams go to no other shard");
            let told = refusals(&said);
            let rate = |code: &u16| (1406..=1414).contains(code);
            assert!(
                told.contains(&ELSEWHERE) || told.iter().any(rate),
                "{said:?}\n{question:?}"
            );
            return;
        }
        if elsewhere {
            assert!(done.is_err(), "{question:?}");
            return;
        }
        self.settle_sent(&question, want, done, counts);
    }

    fn take_up(&mut self, which: usize, question: Question, counts: &mut Counts) {
        let before = self.kept.swap_remove(which);
        counts.resumed += 1;
        let left = before.by.way != Way::Tcp && question.way == Way::Tcp;
        let mut want = fails(&self.defined.endpoints[question.endpoint], &question);
        // The session's own secret stands in for what opened it, which has to be good still.
        want.extend(
            before
                .fails(&self.defined, question.at)
                .into_iter()
                .filter(|fail| *fail == Fail::KeyOver),
        );
        let door = self.random.usize(..self.node.shards.len());
        self.part(question.endpoint, question.sends);
        if before.connected {
            self.node.cut(&before.open);
        }
        let opened = self.node.resume(&before.open, &question, door);
        let gone = |said: &Vec<Said>| refusals(said).contains(&UNKNOWN);
        if opened.as_ref().is_err_and(gone) {
            let fits = left || before.unsure || !want.is_empty();
            assert!(fits, "{question:?}\n{}", self.again());
            return;
        }
        assert!(
            !left || opened.is_err(),
            "{question:?} left its tunnel\n{}",
            self.again()
        );
        if left {
            return;
        }
        if question.way == Way::Datagram {
            if let Ok((open, _)) = opened {
                self.node.cut(&open);
            }
            return;
        }
        self.go_on(question, want, opened, counts);
    }

    /// A frame was taken, or not: rates are looked at where nothing else is said against it.
    fn settle_sent(
        &mut self,
        question: &Question,
        mut want: Fails,
        done: Done,
        counts: &mut Counts,
    ) -> bool {
        let endpoint = &self.defined.endpoints[question.endpoint];
        let mut grants = endpoint.grants.iter();
        let grant = grants.find(|one| one.sends && one.channel == question.channel);
        let (taken, account) = (done.is_ok(), &self.defined.accounts[&endpoint.name[..1]]);
        let frame = Frame {
            messages: question.bodies.len() as u64,
            bytes: self.node.frame_bytes,
            at: self.now,
        };
        if let (true, Some(grant)) = (want.is_empty(), grant) {
            match self.allowances.admits(endpoint, grant, account, &frame) {
                Admitted::Yes => {}
                Admitted::No(short) => want = short,
                Admitted::Unsure => {
                    counts.unsure += 1;
                    if !taken {
                        return false;
                    }
                }
            }
            if taken {
                self.allowances.take(endpoint, grant, account, &frame);
            }
        }
        if taken {
            let name = &*question.channel;
            let hub = self.defined.channels[name].hub;
            let channel = (name, self.node.channel_of(name), hub);
            let (sender, at) = (self.node.sender(endpoint), question.at);
            let endpoints = &self.defined.endpoints;
            self.queues
                .note(endpoints, channel, sender, &question.bodies, at);
        }
        self.settle_done(question, &want, done, counts);
        taken
    }

    fn settle_done(&self, question: &Question, want: &Fails, done: Done, counts: &mut Counts) {
        let shown = || {
            format!(
                "{question:?}\nof {:#?}\nof account {:?}\n{}",
                self.defined.endpoints[question.endpoint],
                self.defined.accounts,
                self.again()
            )
        };
        assert_eq!(
            done.is_ok(),
            want.is_empty(),
            "{want:?}, the shards: {done:?}\n{}",
            shown()
        );
        match &done {
            Ok(()) => counts.allowed += 1,
            Err(said) => {
                assert!(
                    names_one(said, want),
                    "{want:?}, told: {said:?}\n{}",
                    shown()
                );
                for fail in want {
                    *counts.why_not.entry(*fail).or_default() += 1;
                }
            }
        }
    }

    /// The control plane names the same conditions, all of them.
    fn ask_why(&self, question: &Question, want: &Fails) {
        if question.poses_as.is_some() || matches!(question.proof, Proof::Forged) {
            return;
        }
        let mut want = want.clone();
        if !NODES.contains(&question.node) {
            // Of a node that is not defined nothing can be asked.
            want.remove(&Fail::NotHome);
        }
        let told = self.node.told(&self.defined, question);
        let failed = told.checks.iter().filter(|check| !check.passed);
        let failed = failed.map(|check| check.check).collect();
        assert_eq!(
            checks(&want),
            failed,
            "{want:?}, why: {told:#?}\n{question:?}\nof {:#?}\n{}",
            self.defined.endpoints[question.endpoint],
            self.again()
        );
        assert_eq!(told.allowed, checks(&want).is_empty());
    }
}

fn deliveries(said: &[Said]) -> Vec<Delivered> {
    let delivered = said.iter().filter_map(|said| match said {
        Said::Deliver(Source::Queue, messages) => Some(messages.clone()),
        _ => None,
    });
    delivered.flatten().collect()
}

impl Node {
    /// All of these are done.
    fn settled(&mut self, open: &mut Open, delivered: &[Delivered]) {
        if let Some(last) = delivered.iter().map(|one| one.number).max() {
            let settle = open.client.settle(Source::Queue, Outcome::AcceptUpTo, last);
            self.shards[open.shard].receive(open.client.connection, &settle);
            self.settle();
        }
    }
}
