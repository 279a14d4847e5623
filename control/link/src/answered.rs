//! Since when a node has had what was newest, by the answers of the control plane to its questions. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::follow::Report;
use crate::frame::Version;
use crate::freshness::Moment;

/// Answers that may wait for the shards to reach them.
const ANSWERS_MAX: usize = 32;

/// What was newest at which moments, as the control plane answers. The oldest that is not reached stays, so that one is.
pub(crate) struct Answered {
    pub(crate) since: Moment,
    /// Each with how long after `since` it was asked for.
    newest: VecDeque<(Version, Duration)>,
}

impl Answered {
    pub(crate) fn since(since: Moment) -> Self {
        let newest = VecDeque::new();
        Self { since, newest }
    }

    /// What is asked at this moment: milliseconds since the connection was made, from 1.
    pub(crate) fn ask(&self, now: Moment) -> u64 {
        let since = self.since.until(now).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
    }

    /// This was newest when the question was asked, or later. An answer to no question of ours says nothing.
    pub(crate) fn note(&mut self, newest: Version, answers: u64, now: Moment) {
        let asked = answers.checked_sub(1).map(Duration::from_millis);
        if let Some(asked) = asked.filter(|asked| *asked <= self.since.until(now))
            && self.newest.len() < ANSWERS_MAX
        {
            self.newest.push_back((newest, asked));
        }
    }

    /// None of them says anything about the table that comes.
    pub(crate) fn forget(&mut self) {
        self.newest.clear();
    }

    /// The last one that every shard of this report has reached; it and those before it are done with.
    pub(crate) fn reached(&mut self, report: &Report) -> Option<(Version, Duration)> {
        let has = report.has?;
        let mut last = None;
        while let Some((newest, asked)) = self.newest.front().copied() {
            let there = has.covers(&newest) && report.shards.iter().all(|one| *one >= newest.epoch);
            if !there {
                break;
            }
            last = Some((newest, asked));
            self.newest.pop_front();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::numbered as version;

    fn report(has: Version, shards: [u64; 2]) -> Report {
        Report {
            has: Some(has),
            shards: shards.to_vec(),
            ..Report::default()
        }
    }

    #[test]
    fn a_node_that_is_always_a_moment_behind_is_as_fresh_as_that_moment_is_long() {
        let (began, second) = (Moment::now(), Duration::from_secs(1));
        let mut answered = Answered::since(began);
        for at in 1..100_u32 {
            let asked = answered.ask(began + second * at);
            let now = began + second * at + second / 2;
            answered.note(version(u64::from(at)), asked, now);
            // Every shard has the one before, some the newest.
            let epoch = u64::from(at);
            let has = report(version(epoch), [epoch, epoch - 1]);
            let reached = answered.reached(&has);
            let want = (at > 1).then(|| (version(epoch - 1), second * (at - 1)));
            assert_eq!(reached, want);
        }
    }

    #[test]
    fn an_answer_counts_from_its_question_and_one_to_no_question_not_at_all() {
        let (began, second) = (Moment::now(), Duration::from_secs(1));
        let there = report(version(5), [5, 5]);
        let mut answered = Answered::since(began);
        let asked = answered.ask(began + second);
        // It lay on its way, or here, for an hour.
        answered.note(version(5), asked, began + second * 3_600);
        assert_eq!(answered.reached(&there), Some((version(5), second)));
        answered.note(version(5), 0, began + second * 3_600);
        answered.note(version(5), u64::MAX, began + second * 3_600);
        answered.note(version(5), 7_200_001, began + second * 3_600);
        assert_eq!(answered.reached(&there), None);
    }

    #[test]
    fn what_is_not_in_force_on_every_shard_or_is_of_another_past_is_not_fresh() {
        let began = Moment::now();
        let past = Version {
            lineage: [2; 16],
            ..version(5)
        };
        let other = Version {
            digest: [9; 32],
            ..version(5)
        };
        for (why, has) in [
            ("a shard is behind", report(version(5), [5, 4])),
            ("another past", report(past, [5, 5])),
            ("another table of that epoch", report(other, [5, 5])),
            ("no table", Report::default()),
        ] {
            let mut answered = Answered::since(began);
            answered.note(version(5), 1, began);
            assert_eq!(answered.reached(&has), None, "{why}");
        }
        let mut answered = Answered::since(began);
        for number in 0..1_000 {
            answered.note(version(number), 1, began);
        }
        assert!(answered.newest.len() <= ANSWERS_MAX);
    }
}
