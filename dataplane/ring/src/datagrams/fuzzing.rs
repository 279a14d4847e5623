//! What must hold of any bytes beside and in a datagram: for the tests of this room, and with the feature `fuzzing` for the fuzz targets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ancillary::{Control, NAME_BYTES, Name, Told, read_control, read_name};
use super::steering::program;
use super::{CONTROL_BYTES, DatagramSocket, HEADER_BYTES, Train, read};

/// Read a buffer of any bytes as if the kernel had filled it: what is told of it, if it can be read. Panics where that does not fit
/// together.
pub fn train(buffer: &[u8]) -> Option<Train<'_>> {
    let train = read(buffer, &DatagramSocket::shape())?;
    assert!(train.ecn <= 3, "{train:?}");
    assert!(train.segment_bytes >= 1, "{train:?}");
    assert_eq!(HEADER_BYTES + train.bytes.len(), buffer.len());
    let pieces = train.bytes.chunks(train.segment_bytes);
    assert_eq!(pieces.len().max(1), train.count());
    Some(train)
}

/// Read control bytes of any kind; they may be longer than the kernel's are.
pub fn control(bytes: &[u8]) {
    let told = read_control(bytes);
    assert!(told.ecn <= 3 && told.segment_bytes != Some(0), "{told:?}");
}

/// What is said of a train that leaves, drawn from any bytes, is read as it was said.
pub fn said_is_read(bytes: &[u8]) {
    let mut drawn = [0; 44];
    let count = bytes.len().min(drawn.len());
    drawn[..count].copy_from_slice(&bytes[..count]);
    let address = |at: usize, four: bool| -> IpAddr {
        let octets: [u8; 16] = drawn[at..at + 16].try_into().expect("sixteen of them");
        match four {
            true => Ipv4Addr::from(u32::from_be_bytes([
                octets[0], octets[1], octets[2], octets[3],
            ]))
            .into(),
            false => Ipv6Addr::from(octets).into(),
        }
    };
    let port = u16::from_be_bytes([drawn[32], drawn[33]]);
    let to = SocketAddr::new(address(0, drawn[34] & 1 == 0), port);
    let from = (drawn[34] & 2 == 0).then(|| address(16, drawn[34] & 4 == 0));
    let segment = u16::from_be_bytes([drawn[35], drawn[36]]);
    let segment = (segment > 0).then_some(segment);

    let name = Name::of(to);
    assert_eq!(read_name(&name.bytes[..name.used as usize]), Some(to));
    assert!(name.used as usize <= NAME_BYTES);
    let control = Control::of(to, segment, drawn[37], from);
    assert!(control.used <= CONTROL_BYTES);
    let said = said(to, segment, drawn[37] & 3, from);
    assert_eq!(said, read_back(&control.bytes[..control.used]));
}

/// What of all that is to be on the way: an address of the other family is left out.
fn said(to: SocketAddr, segment: Option<u16>, ecn: u8, from: Option<IpAddr>) -> Told {
    let four = |address: IpAddr| address.to_canonical().is_ipv4();
    Told {
        segment_bytes: segment,
        ecn,
        local: from
            .map(|from| from.to_canonical())
            .filter(|from| four(*from) == four(to.ip())),
    }
}

/// The same layouts, but how long pieces are has another name on the way out, and the address to send from another place.
fn read_back(bytes: &[u8]) -> Told {
    let mut told = read_control(bytes);
    let mut rest = bytes;
    while let Some((level, kind, data, next)) = super::ancillary::split_message(rest) {
        rest = next;
        if (level, kind) == (libc::SOL_UDP, libc::UDP_SEGMENT) {
            let bytes = data.first_chunk::<2>().expect("a length of two bytes");
            told.segment_bytes = Some(u16::from_ne_bytes(*bytes));
        }
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO) {
            let octets = data[4..].first_chunk::<4>().expect("an address");
            told.local = Some(Ipv4Addr::from(*octets).into());
        }
    }
    told
}

/// Which of so many sockets the kernel gives a datagram: the program that is attached to them, step by step. A load behind the end
/// ends it with 0.
pub fn steered_to(datagram: &[u8], sockets: u16) -> u16 {
    let program = program(sockets);
    let (mut at, mut value) = (0, 0_u32);
    loop {
        let step = program[at];
        at += 1;
        match step.code {
            0x30 => match datagram.get(step.k as usize) {
                Some(byte) => value = u32::from(*byte),
                None => return 0,
            },
            0x45 => {
                at += usize::from(if value & step.k != 0 {
                    step.jt
                } else {
                    step.jf
                })
            }
            0x05 => at += step.k as usize,
            0x94 => value %= step.k,
            0x16 => return u16::try_from(value).expect("a socket's number"),
            other => panic!("a step that is not known: {other:#x}"),
        }
    }
}
