//! What the kernel tells and is told beside a datagram's bytes: addresses, ECN marks, how long the pieces of a train are.
//!
//! Read from and written to plain bytes, without a pointer: what is malformed is left out, never followed. The crate `quinn-udp`
//! knows the same layouts but keeps them behind calls of recvmsg and sendmsg of its own, which a ring has no use for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the longest address, `sockaddr_in6`.
pub(crate) const NAME_BYTES: usize = 28;
/// Room for all that is asked for with one receive: length of pieces, mark, address it was sent to, with their headers.
pub(crate) const CONTROL_BYTES: usize = 128;

/// Bytes of `struct cmsghdr`: a length, a level, a type.
const HEADER_BYTES: usize = size_of::<usize>() + 8;
/// The two lowest bits of the traffic class.
const ECN_MASK: u8 = 0b11;

/// What came beside the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Length of each piece but the last, if several came as one.
    pub(crate) segment_bytes: Option<u16>,
    pub(crate) ecn: u8,
    pub(crate) local: Option<IpAddr>,
}

/// Read control messages. Unknown ones are passed over; the first that does not fit ends the reading.
pub(crate) fn read_control(mut bytes: &[u8]) -> Told {
    let mut told = Told::default();
    while let Some((level, kind, data, rest)) = split_message(bytes) {
        bytes = rest;
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let bytes = number(data).and_then(|bytes| u16::try_from(bytes).ok());
                told.segment_bytes = bytes.filter(|bytes| *bytes > 0);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                told.ecn = data.first().map_or(0, |class| class & ECN_MASK);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                told.ecn = number(data).map_or(0, |class| class as u8 & ECN_MASK);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // Interface, local address, then the address that stood in the packet.
                let address = data.get(8..).and_then(|data| data.first_chunk::<4>());
                told.local = address.map(|octets| Ipv4Addr::from(*octets).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = data.first_chunk::<16>();
                told.local = address.map(|octets| Ipv6Addr::from(*octets).into());
            }
            _ => {}
        }
    }
    told
}

/// The first message: level, type, data, and what follows.
pub(super) fn split_message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<{ size_of::<usize>() }>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, _) = rest.split_first_chunk::<4>()?;
    let length = usize::from_ne_bytes(*length);
    let data = bytes.get(HEADER_BYTES..length)?;
    let next = aligned(length).min(bytes.len());
    Some((
        i32::from_ne_bytes(*level),
        i32::from_ne_bytes(*kind),
        data,
        &bytes[next..],
    ))
}

fn number(data: &[u8]) -> Option<i32> {
    data.first_chunk::<4>()
        .map(|bytes| i32::from_ne_bytes(*bytes))
}

/// Messages begin at multiples of a word.
const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(size_of::<usize>())
}

/// Control messages to be sent, in memory of a fixed size.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control {
    pub(crate) bytes: [u8; CONTROL_BYTES],
    pub(crate) used: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            bytes: [0; CONTROL_BYTES],
            used: 0,
        }
    }
}

impl Control {
    /// What a train to `to` needs: how long its pieces are, if there are several, its mark, and whom it is from.
    pub(crate) fn of(
        to: SocketAddr,
        segment_bytes: Option<u16>,
        ecn: u8,
        from: Option<IpAddr>,
    ) -> Self {
        let mut control = Self::default();
        let four = to.ip().to_canonical().is_ipv4();
        if let Some(bytes) = segment_bytes {
            control.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
        }
        if ecn != 0 {
            let (level, kind) = match four {
                true => (libc::IPPROTO_IP, libc::IP_TOS),
                false => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
            };
            control.push(level, kind, &i32::from(ecn & ECN_MASK).to_ne_bytes());
        }
        match from.map(|from| from.to_canonical()) {
            Some(IpAddr::V4(from)) if four => {
                let mut data = [0; 12];
                data[4..8].copy_from_slice(&from.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(from)) if !four => {
                let mut data = [0; 20];
                data[..16].copy_from_slice(&from.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
            _ => {}
        }
        control
    }

    pub(super) fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = HEADER_BYTES + data.len();
        let place = &mut self.bytes[self.used..self.used + aligned(length)];
        let (head, rest) = place.split_at_mut(HEADER_BYTES);
        head[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
        head[size_of::<usize>()..HEADER_BYTES - 4].copy_from_slice(&level.to_ne_bytes());
        head[HEADER_BYTES - 4..].copy_from_slice(&kind.to_ne_bytes());
        rest[..data.len()].copy_from_slice(data);
        self.used += aligned(length);
    }
}

/// An address as the kernel has it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Name {
    pub(crate) bytes: [u8; NAME_BYTES],
    pub(crate) used: u32,
}

impl Name {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, used) = match address {
            SocketAddr::V4(address) => {
                bytes[4..8].copy_from_slice(&address.ip().octets());
                (libc::AF_INET, 16)
            }
            SocketAddr::V6(address) => {
                bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&address.ip().octets());
                bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
                (libc::AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Self { bytes, used }
    }
}

/// Read an address; `None` of a family that a datagram socket does not have.
pub(crate) fn read_name(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk::<2>()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk::<2>()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets = bytes.get(4..)?.first_chunk::<4>()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(*octets), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(*bytes.get(4..)?.first_chunk::<4>()?);
            let octets = bytes.get(8..)?.first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk::<4>()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*octets), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_it_was_written() {
        for address in ["127.0.0.1:4433", "[2001:db8::7]:1", "[fe80::1%3]:65535"] {
            let address: SocketAddr = address.parse().expect("an address");
            let name = Name::of(address);
            assert_eq!(read_name(&name.bytes[..name.used as usize]), Some(address));
        }
        assert_eq!(read_name(&[0; NAME_BYTES]), None, "of no family");
        assert_eq!(read_name(&[]), None);
    }

    #[test]
    fn what_is_told_is_read_in_any_order_and_unknown_messages_are_passed_over() {
        let mut control = Control::default();
        control.push(libc::SOL_SOCKET, 12345, &[7; 5]);
        let mut info = [0; 12];
        info[8..].copy_from_slice(&[10, 0, 0, 9]);
        control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        control.push(libc::IPPROTO_IP, libc::IP_TOS, &[0b1010_1011]);
        control.push(libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
        let told = read_control(&control.bytes[..control.used]);
        let want = Told {
            segment_bytes: Some(1200),
            ecn: 3,
            local: Some([10, 0, 0, 9].into()),
        };
        assert_eq!(told, want);
    }

    #[test]
    fn cut_or_mutilated_control_bytes_are_never_followed() {
        let to: SocketAddr = "[2001:db8::7]:1".parse().expect("an address");
        let control = Control::of(to, Some(1200), 2, Some(to.ip()));
        let good = &control.bytes[..control.used];
        for end in 0..good.len() {
            let _ = read_control(&good[..end]);
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bad = good.to_vec();
            for _ in 0..random.usize(1..9) {
                let at = random.usize(..bad.len());
                bad[at] = random.u8(..);
            }
            let _ = read_control(&bad);
        }
    }
}
