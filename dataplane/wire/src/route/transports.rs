//! Over what an endpoint's sessions may run.

/// What carries a session's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Transport {
    /// TCP without encryption.
    Tcp = 1,
    /// TLS over TCP.
    Tls = 2,
    /// Streams of QUIC.
    Quic = 4,
    /// Datagrams of a session over QUIC.
    QuicDatagram = 8,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tls, Self::Quic, Self::QuicDatagram];

    /// The word that plans and commands use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::QuicDatagram => "quic-datagram",
        }
    }
}

/// Some of them; the default has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transports(u8);

impl Transports {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// With one more.
    #[must_use]
    pub const fn with(self, transport: Transport) -> Self {
        Self(self.0 | transport as u8)
    }

    /// Whether it has this one.
    pub const fn has(self, transport: Transport) -> bool {
        self.0 & transport as u8 != 0
    }

    /// The sum of their numbers.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Those with these numbers; nothing if there is another bit.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits < 16 {
            true => Some(Self(bits)),
            false => None,
        }
    }
}

impl Default for Transports {
    fn default() -> Self {
        Transport::ALL.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let set = Transports::NONE.with(Transport::Tls).with(Transport::Quic);
        let has = Transport::ALL.map(|one| set.has(one));
        assert_eq!(has, [false, true, true, false]);
        assert_eq!(Transports::from_bits(set.bits()), Some(set));
        assert!(
            Transport::ALL
                .iter()
                .all(|one| Transports::default().has(*one))
        );
        assert_eq!(Transports::from_bits(16), None);
    }
}
