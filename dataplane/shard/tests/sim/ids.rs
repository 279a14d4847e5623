//! Names of messages, and dense maps and sets of them: every audit goes through all messages, so they decide how
//! many seeds a second are run.

/// Sender in the high half, its serial (from 1) in the low half; the first 8 bytes of every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(pub(crate) u64);

impl MessageId {
    pub(crate) fn of(body: &[u8]) -> Self {
        Self(
            body.first_chunk()
                .map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes)),
        )
    }

    fn sender(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn serial(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What is known of messages. A handful of senders, each with serials that count up.
#[derive(Debug, Clone)]
pub(crate) struct Messages<T> {
    senders: Vec<(u32, Vec<Option<T>>)>,
}

impl<T> Default for Messages<T> {
    fn default() -> Self {
        Self {
            senders: Vec::new(),
        }
    }
}

impl<T> Messages<T> {
    pub(crate) fn get(&self, id: MessageId) -> Option<&T> {
        let (_, serials) = self.senders.iter().find(|(name, _)| *name == id.sender())?;
        serials.get(id.serial())?.as_ref()
    }

    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.get(id).is_some()
    }

    /// Returns what was known of it before. Only names of honest senders come here: they bound the memory.
    pub(crate) fn insert(&mut self, id: MessageId, value: T) -> Option<T> {
        let name = id.sender();
        let at = self.senders.iter().position(|(known, _)| *known == name);
        let at = at.unwrap_or_else(|| {
            self.senders.push((name, Vec::new()));
            self.senders.len() - 1
        });
        let serials = &mut self.senders[at].1;
        if serials.len() <= id.serial() {
            serials.resize_with(id.serial() + 1, || None);
        }
        serials[id.serial()].replace(value)
    }

    /// All of them, sender by sender, in order of their serials.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MessageId, &T)> {
        self.senders.iter().flat_map(|(name, serials)| {
            let id = |serial| MessageId(u64::from(*name) << 32 | serial as u64);
            let known = serials.iter().enumerate();
            known.filter_map(move |(serial, value)| Some((id(serial), value.as_ref()?)))
        })
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(MessageId) -> bool) {
        for (name, serials) in &mut self.senders {
            for (serial, value) in serials.iter_mut().enumerate() {
                if !keep(MessageId(u64::from(*name) << 32 | serial as u64)) {
                    *value = None;
                }
            }
        }
    }
}
