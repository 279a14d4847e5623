//! The records of a server's tunnel once its handshake is done (RFC 8446, section 5): opened where their plaintext goes, sealed where
//! it leaves. The handshake itself, and all of TLS 1.2, is rustls's.
//!
//! rustls copies each record twice more, and keeps some 6 KiB of buffers for a tunnel that is idle; this keeps two keys.

use rustls::crypto::tls13::OkmBlock;
use rustls::{AlertDescription, Error, PeerMisbehaved, Tls13CipherSuite};
use zeroize::{Zeroize, Zeroizing};

use crate::cryptography::aead::{Aad, Algorithm, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use crate::frames::{Frames, HEADER_BYTES};
use crate::tunnel::Broken;

/// Content types.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// Bytes of plaintext in a record, at most, and of its tag.
const PLAIN_BYTES_MAX: usize = 1 << 14;
const TAG_BYTES: usize = 16;
/// Bytes of a record behind its header, at most.
const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;
/// Records under one key, well below what AES-GCM allows (RFC 8446, section 5.5).
const RECORDS_A_KEY: u64 = 1 << 22;
/// Records without data in a row: who sends more wastes our time.
const IDLE_RECORDS_MAX: u32 = 32;

/// A KeyUpdate, but for its last byte.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// Keys of one direction.
pub(crate) struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
    /// What the next keys are made from; rustls wipes it.
    secret: OkmBlock,
}

impl Drop for Half {
    fn drop(&mut self) {
        // Of the key itself only its maker could.
        self.iv.zeroize();
    }
}

/// What the keys of both are made for.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    pub(crate) algorithm: &'static Algorithm,
    pub(crate) suite: &'static Tls13CipherSuite,
}

impl Suite {
    /// HKDF-Expand-Label without context (RFC 8446, section 7.1).
    fn expand(&self, secret: &OkmBlock, label: &str, output: &mut [u8]) -> Result<(), Error> {
        let length = u16::try_from(output.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let label_bytes = [u8::try_from(6 + label.len()).unwrap_or(u8::MAX)];
        let info: [&[u8]; 5] = [&length, &label_bytes, b"tls13 ", label.as_bytes(), &[0]];
        let expander = self.suite.hkdf_provider.expander_for_okm(secret);
        let expanded = expander.expand_slice(&info, output);
        expanded.map_err(|_| Error::General("a key that is too long".to_owned()))
    }

    fn half(&self, secret: OkmBlock, number: u64) -> Result<Half, Error> {
        // Wiped also where this fails.
        let mut key = Zeroizing::new([0; 32]);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        let bytes = self.algorithm.key_len();
        let key = key.get_mut(..bytes).ok_or(Error::HandshakeNotComplete)?;
        self.expand(&secret, "key", key)?;
        self.expand(&secret, "iv", &mut *iv)?;
        let unbound = UnboundKey::new(self.algorithm, key);
        Ok(Half {
            key: LessSafeKey::new(unbound.map_err(|_| Error::EncryptError)?),
            iv: *iv,
            number,
            secret,
        })
    }

    /// The keys that follow these.
    fn next(&self, before: &Half) -> Result<Half, Error> {
        let mut secret = Zeroizing::new([0; OkmBlock::MAX_LEN]);
        let bytes = before.secret.as_ref().len();
        let next = &mut secret[..bytes];
        self.expand(&before.secret, "traffic upd", next)?;
        self.half(OkmBlock::new(next), 0)
    }
}

impl Half {
    /// The nonce of the next record.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let number = self.number.to_be_bytes();
        let last = nonce.iter_mut().rev().zip(number.iter().rev());
        last.for_each(|(byte, number)| *byte ^= number);
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Add one record to `out`.
    fn seal(&mut self, kind: u8, content: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let sealed_bytes = content.len() + 1 + TAG_BYTES;
        let length = u16::try_from(sealed_bytes).map_err(|_| Error::EncryptError)?;
        let [high, low] = length.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        out.reserve(HEADER_BYTES + sealed_bytes);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(content);
        out.push(kind);
        let nonce = self.nonce();
        let inner = &mut out[start..];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), inner);
        match tag {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                // Nothing leaves that is not sealed.
                out.truncate(start - HEADER_BYTES);
                Err(Error::EncryptError)
            }
        }
    }

    /// Add the content of one record to `plaintext`; its kind.
    fn open(&mut self, record: &[u8], plaintext: &mut Vec<u8>) -> Result<u8, Error> {
        let (header, sealed) = record
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(Error::DecryptError)?;
        let start = plaintext.len();
        plaintext.extend_from_slice(sealed);
        let nonce = self.nonce();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(*header), &mut plaintext[start..]);
        let inner = match opened {
            Ok(inner) => &*inner,
            Err(_) => &[],
        };
        let content = inner.iter().rposition(|byte| *byte != 0);
        let (found, kind) = (inner.len(), content.map(|at| inner[at]));
        plaintext.truncate(start + content.unwrap_or(0));
        match kind {
            Some(kind) if content <= Some(PLAIN_BYTES_MAX) => Ok(kind),
            Some(_) => {
                plaintext.truncate(start);
                Err(Error::PeerSentOversizedRecord)
            }
            // A good tag over padding alone.
            None if found > 0 => Err(PeerMisbehaved::IllegalTlsInnerPlaintext.into()),
            None => Err(Error::DecryptError),
        }
    }
}

/// The records of both directions.
pub(crate) struct Records {
    suite: Suite,
    receives: Half,
    sends: Half,
    frames: Frames,
    /// What TLS itself has to say.
    pending: Vec<u8>,
    /// Records without data since the last one with some.
    idle_records: u32,
    records_a_key: u64,
    /// The peer has asked that we go on under our next keys, once or more often: one answer, before what is sent next.
    owes_update: bool,
    peer_finished: bool,
    /// A last word was said.
    finished: bool,
    broken: bool,
}

/// What keys are made from, how many records there were under them, and the initialization vector that must come out.
pub(crate) struct Secrets {
    pub(crate) receives: (OkmBlock, u64, Zeroizing<[u8; NONCE_LEN]>),
    pub(crate) sends: (OkmBlock, u64, Zeroizing<[u8; NONCE_LEN]>),
}

impl Records {
    /// Go on where a handshake has ended; `pending` is what it has still to say.
    pub(crate) fn new(suite: Suite, secrets: Secrets, pending: Vec<u8>) -> Result<Self, Error> {
        let Secrets { receives, sends } = secrets;
        let (receives, sends) = (
            (suite.half(receives.0, receives.1)?, receives.2),
            (suite.half(sends.0, sends.1)?, sends.2),
        );
        if receives.0.iv != *receives.1 || sends.0.iv != *sends.1 {
            return Err(misplaced("secrets that are not those of this connection"));
        }
        Ok(Self {
            suite,
            receives: receives.0,
            sends: sends.0,
            frames: Frames::default(),
            pending,
            idle_records: 0,
            records_a_key: RECORDS_A_KEY,
            owes_update: false,
            peer_finished: false,
            finished: false,
            broken: false,
        })
    }

    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        if self.broken {
            return Ok(());
        }
        let mut frames = std::mem::take(&mut self.frames);
        let mut done = Ok(());
        while done.is_ok() && !self.peer_finished {
            match frames.next(&mut bytes) {
                None => break,
                Some(record) => done = self.take(&record, plaintext),
            }
        }
        if done.is_ok() {
            // What has come of the next one shows already whether it can be one.
            done = frames.begun().map_or(Ok(()), check);
        }
        if !self.peer_finished {
            self.frames = frames;
        }
        done.map_err(|error| self.break_off(error))
    }

    /// Open one record.
    fn take(&mut self, record: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        check(record)?;
        let start = plaintext.len();
        let kind = self.receives.open(record, plaintext)?;
        let content = &plaintext[start..];
        if kind == DATA && !content.is_empty() {
            self.idle_records = 0;
            return Ok(());
        }
        // No message that may come is longer.
        let (mut short, bytes) = ([0; KEY_UPDATE.len() + 1], content.len());
        if let Some(short) = short.get_mut(..bytes) {
            short.copy_from_slice(content);
        }
        plaintext.truncate(start);
        self.idle_records += 1;
        if self.idle_records > IDLE_RECORDS_MAX {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        match (kind, short.get(..bytes)) {
            (DATA, _) => Ok(()),
            (ALERT, Some([_, description])) => self.hear((*description).into()),
            (HANDSHAKE, Some([first @ .., asked @ ..=1])) if *first == KEY_UPDATE => {
                self.update(*asked == 1)
            }
            (ALERT | HANDSHAKE, _) => Err(misplaced("a message that is not for a server")),
            _ => Err(misplaced("a record of no kind")),
        }
    }

    fn hear(&mut self, description: AlertDescription) -> Result<(), Error> {
        match description {
            AlertDescription::CloseNotify => self.peer_finished = true,
            AlertDescription::UserCanceled => {}
            other => return Err(Error::AlertReceived(other)),
        }
        Ok(())
    }

    /// The peer goes on under its next keys, and may ask that we do. That is answered with what is sent next (RFC 8446, section
    /// 4.6.3), so who asks again and again and takes nothing makes nothing wait.
    fn update(&mut self, asked: bool) -> Result<(), Error> {
        self.receives = self.suite.next(&self.receives)?;
        self.owes_update |= asked;
        Ok(())
    }

    /// Go on under our next keys.
    fn renew(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let [kind, a, b, c] = KEY_UPDATE;
        self.sends.seal(HANDSHAKE, &[kind, a, b, c, 0], out)?;
        self.sends = self.suite.next(&self.sends)?;
        self.owes_update = false;
        Ok(())
    }

    /// Say why, as far as it can be said.
    fn break_off(&mut self, error: Error) -> Broken {
        self.broken = true;
        let description = match &error {
            Error::AlertReceived(_) => None,
            Error::DecryptError => Some(AlertDescription::BadRecordMac),
            Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
            Error::EncryptError => Some(AlertDescription::InternalError),
            _ => Some(AlertDescription::UnexpectedMessage),
        };
        let first = !std::mem::replace(&mut self.finished, true);
        if let Some(description) = description.filter(|_| first) {
            let fatal = [2, description.into()];
            // What cannot be sealed is not said.
            let _ = self.sends.seal(ALERT, &fatal, &mut self.pending);
        }
        Broken::Tls(error)
    }

    /// Say as the only word that there is no tunnel after all.
    pub(crate) fn refuse(&mut self, description: AlertDescription, out: &mut Vec<u8>) {
        self.broken = true;
        if !std::mem::replace(&mut self.finished, true) {
            // What cannot be sealed is not said.
            let _ = self.sends.seal(ALERT, &[2, description.into()], out);
        }
    }

    /// Bytes that are kept of a record whose rest has not come.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.frames.kept_bytes()
    }

    pub(crate) fn peer_finished(&self) -> bool {
        self.peer_finished
    }

    pub(crate) fn wants_flush(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            out.extend_from_slice(&std::mem::take(&mut self.pending));
        }
    }

    /// Add `plaintext` to `out` in records as full as can be. Nothing more after the last word.
    pub(crate) fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        self.flush(out);
        for content in plaintext.chunks(PLAIN_BYTES_MAX) {
            if self.finished {
                return;
            }
            let renews = self.owes_update || self.sends.number >= self.records_a_key;
            let renewed = if renews { self.renew(out) } else { Ok(()) };
            if renewed
                .and_then(|()| self.sends.seal(DATA, content, out))
                .is_err()
            {
                // What was not sealed is lost to the stream.
                self.finished = true;
            }
        }
    }

    /// Say that nothing more will be sent.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.finished, true) {
            let warning = [1, AlertDescription::CloseNotify.into()];
            // What cannot be sealed is not said.
            let _ = self.sends.seal(ALERT, &warning, &mut self.pending);
        }
        self.flush(out);
    }
}

fn misplaced(what: &str) -> Error {
    Error::General(what.to_owned())
}

/// Whether a record that begins like this may come now.
fn check(header: &[u8]) -> Result<(), Error> {
    let Some([kind, _, _, high, low]) = header.first_chunk::<HEADER_BYTES>() else {
        return Ok(());
    };
    let bytes = usize::from(u16::from_be_bytes([*high, *low]));
    match (*kind, bytes <= SEALED_BYTES_MAX) {
        (DATA, true) => Ok(()),
        (DATA, false) => Err(Error::PeerSentOversizedRecord),
        _ => Err(misplaced("a record that is not encrypted")),
    }
}

#[cfg(test)]
mod tests {
    use crate::cryptography::chosen::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    use rustls::{CipherSuite, SupportedCipherSuite};

    use super::*;
    use crate::cryptography::aead::{AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305};

    fn suites() -> [Suite; 3] {
        [
            (&AES_256_GCM, TLS13_AES_256_GCM_SHA384),
            (&AES_128_GCM, TLS13_AES_128_GCM_SHA256),
            (&CHACHA20_POLY1305, TLS13_CHACHA20_POLY1305_SHA256),
        ]
        .map(|(algorithm, suite)| match suite {
            SupportedCipherSuite::Tls13(suite) => Suite { algorithm, suite },
            other => panic!("{other:?} is older"),
        })
    }

    /// Both ends of one tunnel.
    fn ends(suite: Suite) -> [Records; 2] {
        let bytes = match suite.suite.common.suite {
            CipherSuite::TLS13_AES_256_GCM_SHA384 => 48,
            _ => 32,
        };
        let secret = |byte: u8| OkmBlock::new(&[byte; 48][..bytes]);
        [(1, 2), (2, 1)].map(|(receives, sends)| {
            let half = |byte: u8| {
                let iv = suite.half(secret(byte), 0).expect("keys").iv;
                (secret(byte), 3, Zeroizing::new(iv))
            };
            let secrets = Secrets {
                receives: half(receives),
                sends: half(sends),
            };
            Records::new(suite, secrets, Vec::new()).expect("keys of its length")
        })
    }

    #[test]
    fn records_come_out_as_they_went_in_under_every_suite_and_under_the_next_keys() {
        for suite in suites() {
            let [mut left, mut right] = ends(suite);
            (left.records_a_key, right.records_a_key) = (10, 10);
            let mut random = fastrand::Rng::with_seed(7);
            for round in 0..200 {
                let sent: Vec<u8> = (0..random.usize(..40_000)).map(|_| random.u8(..)).collect();
                let (mut sealed, mut got) = (Vec::new(), Vec::new());
                left.send(&sent, &mut sealed);
                let mut rest = &sealed[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(random.usize(1..=rest.len()));
                    right.receive(now, &mut got).expect("nothing was changed");
                    rest = later;
                }
                assert!(got == sent, "round {round}");
                std::mem::swap(&mut left, &mut right);
            }
        }
    }

    #[test]
    fn secrets_of_another_connection_are_not_gone_on_with() {
        let [suite, ..] = suites();
        let secret = |byte: u8| OkmBlock::new(&[byte; 48]);
        let iv = suite.half(secret(1), 0).expect("keys").iv;
        let secrets = |receives: u8, sends: u8| Secrets {
            receives: (secret(receives), 0, Zeroizing::new(iv)),
            sends: (secret(sends), 0, Zeroizing::new(iv)),
        };
        for (receives, sends, good) in [(1, 1, true), (1, 2, false), (2, 1, false)] {
            let records = Records::new(suite, secrets(receives, sends), Vec::new());
            assert_eq!(records.is_ok(), good, "{receives} and {sends}");
        }
    }

    #[test]
    fn who_is_asked_for_new_keys_sends_under_them() {
        let [suite, ..] = suites();
        let [mut left, mut right] = ends(suite);
        for round in 0..5_u8 {
            let mut out = Vec::new();
            let [kind, a, b, c] = KEY_UPDATE;
            let asking = [kind, a, b, c, 1];
            left.sends
                .seal(HANDSHAKE, &asking, &mut out)
                .expect("it fits");
            left.sends = suite.next(&left.sends).expect("keys");
            left.send(&[round], &mut out);
            let mut got = Vec::new();
            right.receive(&out, &mut got).expect("good");
            assert!(got == [round] && right.owes_update);
            let mut answer = Vec::new();
            right.send(b"answer", &mut answer);
            assert_eq!(right.sends.number, 1, "numbers begin anew");
            left.receive(&answer, &mut got).expect("good");
            assert_eq!(got[1..], *b"answer");
        }
    }

    #[test]
    fn who_asks_for_new_keys_again_and_again_is_answered_once() {
        let [suite, ..] = suites();
        let [mut left, mut right] = ends(suite);
        let [kind, a, b, c] = KEY_UPDATE;
        let mut got = Vec::new();
        for _ in 0..1_000 {
            let mut out = Vec::new();
            for _ in 0..IDLE_RECORDS_MAX {
                let asking = [kind, a, b, c, 1];
                left.sends
                    .seal(HANDSHAKE, &asking, &mut out)
                    .expect("it fits");
                left.sends = suite.next(&left.sends).expect("keys");
            }
            left.send(b".", &mut out);
            right.receive(&out, &mut got).expect("good");
            assert!(!right.wants_flush(), "nothing waits for who takes nothing");
        }
        let mut answer = Vec::new();
        right.send(b"answer", &mut answer);
        assert!(answer.len() < 100, "{} bytes", answer.len());
        got.clear();
        left.receive(&answer, &mut got).expect("good");
        assert_eq!(got, *b"answer");
    }

    #[test]
    fn what_is_no_record_of_the_peers_ends_the_tunnel_with_an_alert_and_nothing_comes_out() {
        let [suite, ..] = suites();
        type Spoil = fn(&mut Records, &mut Vec<u8>);
        let cases: [(&str, AlertDescription, Spoil); 13] = [
            ("a bit", AlertDescription::BadRecordMac, |from, out| {
                from.send(b"data", out);
                out[9] ^= 1;
            }),
            ("its header", AlertDescription::BadRecordMac, |from, out| {
                from.send(b"data", out);
                out[1] = 4;
            }),
            ("its number", AlertDescription::BadRecordMac, |from, out| {
                from.sends.number += 1;
                from.send(b"data", out);
            }),
            ("too short", AlertDescription::BadRecordMac, |_, out| {
                out.extend([DATA, 3, 3, 0, 4, 1, 2, 3, 4]);
            }),
            ("too long", AlertDescription::RecordOverflow, |_, out| {
                out.extend([DATA, 3, 3, 0x41, 0x01]);
            }),
            (
                "too much in it",
                AlertDescription::RecordOverflow,
                |from, out| {
                    let content = vec![1; PLAIN_BYTES_MAX + 1];
                    let _ = from.sends.seal(DATA, &content, out);
                },
            ),
            ("in plain", AlertDescription::UnexpectedMessage, |_, out| {
                out.extend([ALERT, 3, 3, 0, 2, 2, 40]);
            }),
            (
                "of no kind",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    let _ = from.sends.seal(0, &[0; 30], out);
                },
            ),
            (
                "of an unknown kind",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    let _ = from.sends.seal(99, b"data", out);
                },
            ),
            (
                "a change of ciphers",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    let _ = from.sends.seal(20, &[1], out);
                },
            ),
            (
                "a handshake",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    let _ = from.sends.seal(HANDSHAKE, &[1, 0, 0, 1, 0], out);
                },
            ),
            (
                "an update of 2",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    let _ = from.sends.seal(HANDSHAKE, &[24, 0, 0, 1, 2], out);
                },
            ),
            (
                "nothing, for ever",
                AlertDescription::UnexpectedMessage,
                |from, out| {
                    for _ in 0..=IDLE_RECORDS_MAX {
                        let _ = from.sends.seal(DATA, &[], out);
                    }
                },
            ),
        ];
        for (why, want, spoil) in cases {
            let [mut left, mut right] = ends(suite);
            let (mut out, mut got) = (Vec::new(), Vec::new());
            spoil(&mut left, &mut out);
            let broken = right.receive(&out, &mut got);
            assert!(broken.is_err() && got.is_empty(), "{why}: {broken:?}");
            let mut said = Vec::new();
            right.flush(&mut said);
            let heard = left.receive(&said, &mut got);
            let alert = Broken::Tls(Error::AlertReceived(want));
            assert_eq!(heard, Err(alert), "{why}");
            right.send(b"more", &mut said);
            right.receive(&out, &mut got).expect("it listens no more");
            assert!(got.is_empty(), "{why}");
        }
    }

    #[test]
    fn padding_goes_and_the_last_word_is_the_last() {
        let [suite, ..] = suites();
        let [mut left, mut right] = ends(suite);
        let (mut out, mut got) = (Vec::new(), Vec::new());
        // The kind of a record is its last byte that is not zero.
        left.sends
            .seal(0, &[&b"padded"[..], &[DATA], &[0; 60]].concat(), &mut out)
            .expect("it fits");
        left.sends.seal(DATA, &[], &mut out).expect("it fits");
        left.sends.seal(ALERT, &[1, 90], &mut out).expect("it fits");
        left.finish(&mut out);
        let end = out.len();
        left.finish(&mut out);
        left.send(b"behind it", &mut out);
        assert_eq!(out.len(), end);
        out.extend_from_slice(b"and anything");
        right.receive(&out, &mut got).expect("a good end");
        assert!(right.peer_finished() && got == b"padded");
        // The other direction goes on.
        let mut answer = Vec::new();
        right.send(b"still here", &mut answer);
        left.receive(&answer, &mut got).expect("good");
        assert_eq!(got, b"paddedstill here");
    }
}
