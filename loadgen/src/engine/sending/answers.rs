//! How answers are booked: what an ACK covers, what a REJECT takes out, and what is sent again behind it.

use std::cmp::Reverse;

use wire::ack::{Ack, Reject};
use wire::frame::{Frame, FrameKind};
use wire::home::Home;
use wire::ids::NO_STREAM;
use wire::link::parse_goaway;
use wire::reason::{Notice, Reason};

use super::Sending;
use crate::engine::lane::Item;

/// After so long without an answer a datagram counts as lost, nanoseconds.
const LOST_AFTER: u64 = 5_000_000_000;
/// Times the server may say that a number was left out, before the lane is given up.
const MISSED_MAX: u32 = 16;

impl Sending {
    /// Take bytes that came on a lane. What they allow to be sent goes out with the next [`Sending::release`].
    pub fn receive(&mut self, lane: usize, now: u64, bytes: &[u8]) {
        let mut inflow = std::mem::take(&mut self.lanes[lane].inflow);
        let fed = inflow.feed(bytes, |frame| {
            self.take(lane, now, frame);
            self.lanes[lane].fault.is_none()
        });
        self.lanes[lane].inflow = inflow;
        if let Err(error) = fed {
            self.lanes[lane].end(error.to_string());
        }
        if !self.touched.contains(&lane) {
            self.touched.push(lane);
        }
    }

    fn take(&mut self, lane: usize, now: u64, frame: Frame<'_>) {
        if !self.lanes[lane].seal.check(&frame) {
            return self.lanes[lane].end("a frame that the server did not sign".to_owned());
        }
        let result = match frame.kind() {
            FrameKind::Ack => Ack::parse(frame).map(|ack| self.acked(lane, now, &ack)),
            FrameKind::Reject => {
                Reject::parse(frame).map(|reject| self.rejected(lane, now, &reject))
            }
            FrameKind::Pong => Ok(()),
            FrameKind::Goaway => {
                parse_goaway(frame).map(|notice| self.lanes[lane].end(Home::line(frame, &notice)))
            }
            other => return self.lanes[lane].end(format!("{other:?} to a sender")),
        };
        if let Err(error) = result {
            self.lanes[lane].end(error.to_string());
        }
    }

    fn acked(&mut self, lane: usize, now: u64, ack: &Ack) {
        self.lanes[lane].set_credit(ack.credit_frames, ack.credit_bytes);
        self.measured.ack_mode = Some(ack.ack_mode);
        if ack.partition != self.lanes[lane].stream {
            return;
        }
        if self.lanes[lane].is_loose() {
            return self.acked_loose(lane, now, ack.sequence.0);
        }
        while self.lanes[lane].last < ack.sequence.0 {
            let Some(item) = self.lanes[lane].answer_next() else {
                return self.lanes[lane]
                    .end(format!("ack of {}, which was not sent", ack.sequence));
            };
            if item.rejected {
                self.book_rejected(&item);
            } else {
                self.book_acked(&item, now);
            }
        }
    }

    /// The answer to a datagram. What was appended before it has had its answer, so those before it are lost, or rejected.
    fn acked_loose(&mut self, lane: usize, now: u64, number: u64) {
        let Some(place) = self.lanes[lane].place_of(number) else {
            return;
        };
        for index in 0..=place {
            let Some(item) = self.lanes[lane].answer_next() else {
                return;
            };
            match (item.rejected, index == place) {
                (true, _) => self.book_rejected(&item),
                (false, true) => self.book_acked(&item, now),
                (false, false) => self.book_lost(&item),
            }
        }
    }

    /// Give up datagrams that had no answer for long: they may be the last ones of their lane, or all that the credit allows.
    pub(super) fn lose(&mut self, now: u64) {
        let Some(before) = now.checked_sub(LOST_AFTER) else {
            return;
        };
        for lane in 0..self.lanes.len() {
            if !self.lanes[lane].is_loose() {
                continue;
            }
            while let Some(item) = self.lanes[lane].lose_next(before) {
                match item.rejected {
                    true => self.book_rejected(&item),
                    false => self.book_lost(&item),
                }
                self.touched.push(lane);
            }
        }
    }

    fn book_lost(&mut self, item: &Item) {
        let flow = &mut self.flows[item.flow as usize];
        flow.outcome.answered += u64::from(item.count);
        flow.outcome
            .lost
            .extend(item.first..item.first + u64::from(item.count));
        flow.planned.drain(..usize::from(item.count));
    }

    pub(super) fn book_acked(&mut self, item: &Item, now: u64) {
        let flow = &mut self.flows[item.flow as usize];
        flow.outcome.answered += u64::from(item.count);
        self.totals.acked += u64::from(item.count);
        if item.due >= self.times.warm_up {
            self.measured.wire.record(now.saturating_sub(item.put));
        }
        for planned in flow.planned.drain(..usize::from(item.count)) {
            if planned.due >= self.times.warm_up {
                self.measured.ack.record(now.saturating_sub(planned.due));
                self.measured.acked_in_time += u64::from(now < self.times.end);
            }
        }
        self.totals.rejected += flow.book_refused();
    }

    fn book_rejected(&mut self, item: &Item) {
        let flow = &mut self.flows[item.flow as usize];
        flow.outcome.answered += u64::from(item.count);
        self.totals.rejected += u64::from(item.count);
        flow.outcome
            .rejected
            .extend(item.first..item.first + u64::from(item.count));
        flow.planned.drain(..usize::from(item.count));
    }

    fn rejected(&mut self, lane: usize, now: u64, reject: &Reject) {
        if self.lanes[lane].is_loose() {
            return self.rejected_loose(lane, reject);
        }
        let each = &mut self.lanes[lane];
        let index = reject.sequence.0.wrapping_sub(each.last + 1);
        let meant =
            reject.partition == each.stream || (reject.partition == NO_STREAM && !each.relays());
        // A replay leaves no gap and the frame is in the log: its ACK comes by itself.
        if !meant || index >= each.wire.len() as u64 || reject.notice.reason == Reason::Replayed {
            return;
        }
        if each.relays() {
            each.mark_rejected(index as usize);
            return self.count_reason(reject.notice);
        }
        if reject.notice.reason == Reason::OutOfSequence {
            each.missed += 1;
            let back = reject.notice.needed.wrapping_sub(each.last + 1);
            if each.missed > MISSED_MAX || back > index {
                return each.end(format!(
                    "another session sends as this endpoint: {}",
                    reject.notice
                ));
            }
            return drop(self.go_back(lane, back as usize, false));
        }
        self.count_reason(reject.notice);
        let wait = u64::from(reject.notice.retry_after_ms) * 1_000_000;
        if wait > 0 {
            self.lanes[lane].pause(now + wait);
            self.paused.push(Reverse((now + wait, lane)));
        }
        if let Some(refused) = self.go_back(lane, index as usize, true) {
            let flow = &mut self.flows[refused.flow as usize];
            flow.refused.push_back((refused.first, refused.count));
            self.totals.rejected += flow.book_refused();
        }
    }

    fn rejected_loose(&mut self, lane: usize, reject: &Reject) {
        let place = self.lanes[lane].place_of(reject.sequence.0);
        if reject.partition == self.lanes[lane].stream
            && let Some(place) = place
        {
            self.lanes[lane].mark_rejected(place);
            self.count_reason(reject.notice);
        }
    }

    fn count_reason(&mut self, notice: Notice) {
        let reasons = &mut self.measured.reasons;
        match reasons
            .iter_mut()
            .find(|(known, _)| known.reason == notice.reason)
        {
            Some((_, count)) => *count += 1,
            None => reasons.push((notice, 1)),
        }
    }

    fn go_back(&mut self, lane: usize, index: usize, dropped: bool) -> Option<Item> {
        let each = &mut self.lanes[lane];
        let unsent = each.ready.len();
        let refused = each.go_back(index, dropped);
        // Frames that were signed and never sent give their indexes back.
        each.seal.sent -= unsent as u64;
        let back = each.ready.len() - unsent;
        self.signed_bytes += each
            .ready
            .range(..back)
            .map(|item| item.frame_bytes)
            .sum::<usize>();
        self.sign_again(lane);
        refused
    }

    /// Number and sign everything that is ready once more: the refused frame has left a gap.
    pub(super) fn sign_again(&mut self, lane: usize) {
        let mut items = std::mem::take(&mut self.lanes[lane].ready);
        let first = self.lanes[lane].next_sequence();
        for (sequence, item) in (first..).zip(&mut items) {
            self.encode(item, lane, sequence);
        }
        self.lanes[lane].ready = items;
    }
}
