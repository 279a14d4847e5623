//! The bytes of a table or of a change, shared by all who hold them. They have secrets in them: the last who lets go wipes them.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use zeroize::optimization_barrier;

use super::pages::{LARGE_BYTES, Room};

/// Bytes that are read where they lie.
#[derive(Clone)]
pub struct TableBytes {
    bytes: Bytes,
    /// Whether they lie where it is best for them.
    settled: bool,
}

struct Wiped(Room);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // At once instead of byte by byte, of which a table has a hundred million.
        let bytes = self.0.get_mut();
        bytes.fill(0);
        optimization_barrier(bytes);
    }
}

impl From<Vec<u8>> for TableBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Bytes::from_owner(Wiped(Room::Anywhere(bytes))),
            settled: false,
        }
    }
}

impl TableBytes {
    /// So many bytes, which `write` writes.
    pub(super) fn written(count: usize, write: impl FnOnce(&mut [u8])) -> Self {
        let mut wiped = Wiped(Room::zeroed(count));
        write(wiped.0.get_mut());
        Self {
            bytes: Bytes::from_owner(wiped),
            settled: true,
        }
    }

    /// The same where they are read fastest. Copies them, if they are many and lie elsewhere.
    pub(super) fn settled(self) -> Self {
        match self.settled || self.len() < LARGE_BYTES {
            true => self,
            false => Self::written(self.len(), |place| place.copy_from_slice(&self)),
        }
    }
}

impl Deref for TableBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for TableBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableBytes({})", self.len())
    }
}

/// Takes values off the front of bytes that anybody may have written.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

/// The bytes end too early, or hold what has no meaning.
pub(super) struct Unread;

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unread)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread> {
        self.take(N)?.try_into().map_err(|_| Unread)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unread> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn flag(&mut self) -> Result<bool, Unread> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unread),
        }
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unread> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unread> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unread> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number that may not be there; what stands in its place is 0 then.
    pub(super) fn maybe(&mut self) -> Result<Option<u64>, Unread> {
        match (self.flag()?, self.u64()?) {
            (true, number) => Ok(Some(number)),
            (false, 0) => Ok(None),
            (false, _) => Err(Unread),
        }
    }

    /// As many things as a count in front of them says, each of at least one byte.
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Unread>,
    ) -> Result<Vec<T>, Unread> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return Err(Unread);
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unread> {
        let bytes = self.u32()?;
        std::str::from_utf8(self.take(bytes as usize)?).map_err(|_| Unread)
    }
}

/// Puts values behind each other, as [`Reader`] takes them.
pub(super) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, number: u8) {
        self.put(&[number]);
    }

    fn put_u16(&mut self, number: u16) {
        self.put(&number.to_le_bytes());
    }

    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    fn put_maybe(&mut self, number: Option<u64>) {
        self.put_u8(u8::from(number.is_some()));
        self.put_u64(number.unwrap_or(0));
    }

    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).expect("a list of fewer than four billion"));
    }

    fn put_text(&mut self, text: &str) {
        self.put_count(text.len());
        self.put(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
