//! Flooders: senders that keep to nothing, and come back when the server ends their connection.

use super::connections::Connections;
use super::sending::Sending;
use crate::dial::Dialler;
use crate::plan::SenderCredential;
use std::time::Duration;
use wire::diagnosis::Diagnosis;

const DIAL_TIME: Duration = Duration::from_secs(1);
/// Between two attempts of one flooder to come back, nanoseconds.
const AGAIN_EVERY: u64 = 100_000_000;
/// Attempts after the end of the run, to learn what became of the last frames.
const LAST_ATTEMPTS: u32 = 10;
const SPARE: usize = 8;

/// Opens connections again that the server ended.
pub(crate) struct Again {
    dialler: Dialler,
    flooders: Vec<Flooder>,
    end: u64,
    deadline: u64,
    /// Connections opened again.
    pub(crate) reopened: u64,
    /// Attempts that were refused or had no answer.
    pub(crate) turned_away: u64,
    /// Why the last connection ended.
    pub(crate) last_end: Option<String>,
}

struct Flooder {
    who: SenderCredential,
    next: u64,
    last_attempts: u32,
    ended: bool,
}

impl Again {
    /// For these flooders, whose lanes have the same order; nobody comes back after `deadline`.
    pub(crate) fn new(dialler: Dialler, who: &[SenderCredential], end: u64, deadline: u64) -> Self {
        let flooder = |who: &SenderCredential| Flooder {
            who: who.clone(),
            next: 0,
            last_attempts: LAST_ATTEMPTS,
            ended: false,
        };
        Self {
            dialler,
            flooders: who.iter().map(flooder).collect(),
            end,
            deadline,
            reopened: 0,
            turned_away: 0,
            last_end: None,
        }
    }

    /// Connections that may be closing while their successors are there.
    pub(crate) fn spare(&self) -> usize {
        self.flooders.len() + SPARE
    }

    /// Open again what has ended, if it is time to. True while somebody is still to come back.
    pub(super) fn come_back(
        &mut self,
        sending: &mut Sending,
        port: &mut Connections,
        now: u64,
    ) -> Result<bool, Diagnosis> {
        if now >= self.end {
            sending.lanes.iter_mut().for_each(|lane| lane.calm());
        }
        let mut goes_on = false;
        for index in 0..self.flooders.len() {
            let Some(fault) = &sending.lanes[index].fault else {
                continue;
            };
            let each = &mut self.flooders[index];
            if !each.ended {
                (each.ended, each.next) = (true, now);
                self.last_end = Some(fault.clone());
                port.give_up(index);
            }
            let in_time = now < self.end || (each.last_attempts > 0 && sending.waits(index));
            if !in_time || now >= self.deadline {
                continue;
            }
            goes_on = true;
            if now >= each.next && port.has_room() {
                self.dial(index, sending, port, now)?;
            }
        }
        Ok(goes_on)
    }

    fn dial(
        &mut self,
        index: usize,
        sending: &mut Sending,
        port: &mut Connections,
        now: u64,
    ) -> Result<(), Diagnosis> {
        let each = &mut self.flooders[index];
        each.next = now + AGAIN_EVERY;
        each.last_attempts -= u32::from(now >= self.end);
        let who = (&*each.who.endpoint, each.who.key_id, &*each.who.key);
        let dialled = match self.dialler.dial_within(who, DIAL_TIME) {
            Ok(dialled) => dialled,
            Err(turned_away) => {
                self.turned_away += 1;
                self.last_end = Some(turned_away.to_string());
                return Ok(());
            }
        };
        let last = dialled
            .opened
            .channels
            .iter()
            .find(|terms| terms.name == each.who.channel)
            .map(|terms| terms.last_sequence);
        let Some(last) = last else {
            self.turned_away += 1;
            return Ok(());
        };
        each.ended = false;
        self.reopened += 1;
        port.replace(index, dialled.socket)?;
        sending.reopen(index, dialled.opened, last, now);
        sending.receive(index, now, &dialled.rest);
        Ok(())
    }
}
