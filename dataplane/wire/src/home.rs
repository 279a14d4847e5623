//! Where an endpoint is at home, as REFUSED and GOAWAY tell it who is not: behind a notice of `not_home`.

use std::fmt;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::{Frame, FrameKind, ParseError};
use crate::ids::NodeId;
use crate::reason::{Notice, NoticeFixed, Reason};
use crate::route::{Node, RouteTable};

/// Where it begins in a frame: behind the notice.
const AT: usize = 40;

/// The node that serves an endpoint.
///
/// | offset | bytes           | field           | meaning                                             |
/// |-------:|----------------:|-----------------|-----------------------------------------------------|
/// |      0 |               2 | `node_bytes`    | length of the node's name, 1 to 63                  |
/// |      2 |               2 | `address_bytes` | length of its address, at most 259; 0: it has none  |
/// |      4 |    `node_bytes` | `node`          | its name                                            |
/// |        | `address_bytes` | `address`       | where endpoints reach it, `host:port`               |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Where endpoints reach it, if that is told.
    pub address: Option<&'a str>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HomeFixed {
    node_bytes: U16,
    address_bytes: U16,
}
const _: () = assert!(size_of::<HomeFixed>() == 4);

impl<'a> Home<'a> {
    /// Where that node is, if the table has it.
    pub fn of(table: &'a RouteTable, id: NodeId) -> Option<Self> {
        let node = table.node(id)?;
        Some(Self {
            node: &node.name,
            address: node.address.as_deref(),
        })
    }

    /// What a REFUSED or GOAWAY tells of it; nothing if it does not, or is none.
    pub fn told(frame: Frame<'a>) -> Option<Self> {
        let notice = size_of::<NoticeFixed>();
        let ends = matches!(frame.kind(), FrameKind::Refused | FrameKind::Goaway);
        let rest = frame.body().get(notice..).filter(|_| ends)?;
        Self::parse(rest, frame.kind()).ok()?
    }

    /// A notice in one line, with the home that its frame tells.
    pub fn line(frame: Frame<'_>, notice: &Notice) -> String {
        match Home::told(frame) {
            Some(home) => format!("{notice}, at home at {home}"),
            None => notice.to_string(),
        }
    }

    /// What stands behind a notice: nothing, or all of a home.
    pub(crate) fn parse(rest: &'a [u8], kind: FrameKind) -> Result<Option<Self>, ParseError> {
        if rest.is_empty() {
            return Ok(None);
        }
        let short = |need: usize| ParseError::BodyShort {
            kind: kind as u8,
            got: AT - 16 + rest.len(),
            need: AT - 16 + need,
        };
        let fixed = size_of::<HomeFixed>();
        let (lengths, texts) = HomeFixed::ref_from_prefix(rest).map_err(|_| short(fixed))?;
        let node_bytes = usize::from(lengths.node_bytes.get());
        let bytes = node_bytes + usize::from(lengths.address_bytes.get());
        let Some((texts, more)) = texts.split_at_checked(bytes) else {
            return Err(short(fixed + bytes));
        };
        if !more.is_empty() {
            let (kind, bytes) = (kind as u8, more.len());
            return Err(ParseError::Trailing { kind, bytes });
        }
        let (node, address) = texts.split_at(node_bytes);
        let node = std::str::from_utf8(node)
            .ok()
            .filter(|node| Node::is_name(node));
        let good = |address: &&str| address.is_empty() || Node::is_address(address);
        let address = std::str::from_utf8(address).ok().filter(good);
        let field = |at: usize, length: U16| ParseError::Field {
            kind: kind as u8,
            at: AT + at,
            value: length.get().into(),
            need: 1,
        };
        Ok(Some(Self {
            node: node.ok_or(field(0, lengths.node_bytes))?,
            address: Some(address.ok_or(field(2, lengths.address_bytes))?)
                .filter(|address| !address.is_empty()),
        }))
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let address = self.address.unwrap_or("");
        let length =
            |text: &str| U16::new(u16::try_from(text.len()).expect("a name or an address"));
        let fixed = HomeFixed {
            node_bytes: length(self.node),
            address_bytes: length(address),
        };
        out.extend_from_slice(fixed.as_bytes());
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(address.as_bytes());
    }

    /// Whether it may stand behind a notice with this reason.
    pub(crate) fn belongs_to(reason: Reason) -> bool {
        reason == Reason::NotHome
    }
}

impl fmt::Display for Home<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "node {} at {address}", self.node),
            None => write!(f, "node {}", self.node),
        }
    }
}
