//! Messages as applications see them.

use crate::diagnosis::ClientError;
use std::time::{SystemTime, UNIX_EPOCH};
use wire::ids::{ChannelId, EndpointId, LogsId, Offset, PartitionId, UnixNanos};
use wire::send::SendBuilder;

/// A message to be sent: a body, headers as pairs, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Unix nanoseconds; 0 for a device without a clock.
    pub timestamp: UnixNanos,
    /// Keys of 1 to 255 bytes and any values, at most 8,192 bytes together.
    pub headers: Vec<(String, Vec<u8>)>,
    /// At most 262,144 bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// A message made now.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let timestamp = UnixNanos(u64::try_from(now.as_nanos()).unwrap_or(0));
        Self {
            timestamp,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// The same message with one more header.
    #[must_use]
    pub fn header(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((key.to_owned(), value.into()));
        self
    }

    pub(crate) fn put(&self, frame: &mut SendBuilder<'_>) -> Result<(), ClientError> {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(key, value)| (key.as_str(), &value[..]))
            .collect();
        frame
            .message(self.timestamp, &headers, &self.body)
            .map_err(|error| ClientError::Message(error.to_string()))
    }
}

/// A message that came out of the endpoint's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number in the queue: what one settles.
    pub number: u64,
    /// The logs of the node that delivered it: what it counts in. Of other logs it cannot be settled.
    pub logs: LogsId,
    /// The endpoint that sent it, as the server proved it.
    pub sender: EndpointId,
    /// The channel it was sent to.
    pub channel: ChannelId,
    /// The channel's full name, when this endpoint hears it.
    pub channel_name: Option<std::sync::Arc<str>>,
    /// The partition that holds it.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: Offset,
    /// When the server appended it.
    pub append_time: UnixNanos,
    /// 1 for the first delivery.
    pub attempt: u16,
    /// The sender's timestamp.
    pub timestamp: UnixNanos,
    /// The sender's headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Delivery {
    /// The value of the first header with this key.
    pub fn header(&self, key: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| &value[..])
    }
}
