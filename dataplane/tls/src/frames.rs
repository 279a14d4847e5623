//! A stream of bytes, cut anywhere, into whole records of TLS.

use std::borrow::Cow;

/// Bytes of a record's header: kind, version, length.
pub(crate) const HEADER_BYTES: usize = 5;

/// What has come of a record whose rest has not.
#[derive(Default)]
pub(crate) struct Frames {
    begun: Vec<u8>,
}

/// Bytes of the record that begins like this, its header included; `None` if that is not there yet.
fn length(begun: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *begun.first_chunk::<HEADER_BYTES>()?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])))
}

impl Frames {
    /// The next whole record, taken out of `bytes`; without one all of them are kept.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if self.begun.is_empty()
            && let Some((record, rest)) =
                length(bytes).and_then(|length| bytes.split_at_checked(length))
        {
            *bytes = rest;
            return Some(Cow::Borrowed(record));
        }
        self.fill(bytes, HEADER_BYTES);
        let length = length(&self.begun)?;
        self.fill(bytes, length);
        let whole = self.begun.len() == length;
        whole.then(|| Cow::Owned(std::mem::take(&mut self.begun)))
    }

    /// Take bytes until there are so many.
    fn fill(&mut self, bytes: &mut &[u8], want: usize) {
        let missing = want.saturating_sub(self.begun.len());
        let (now, rest) = bytes.split_at(missing.min(bytes.len()));
        self.begun.extend_from_slice(now);
        *bytes = rest;
    }

    /// Bytes that are held for what has come of the next record.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.begun.capacity()
    }

    /// What has come of the next record, if anything has.
    pub(crate) fn begun(&self) -> Option<&[u8]> {
        (!self.begun.is_empty()).then_some(&*self.begun)
    }
}
