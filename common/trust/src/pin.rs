//! Pins: the SHA-256 of a public key, by which a program knows a CA before it has its certificate.

use std::{fmt, str::FromStr};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::x509;

/// What stands between a dataplane token and a pin: `<token>#sha256:<pin>`.
const MARK: &str = "#sha256:";

/// SHA-256 of a certificate's SubjectPublicKeyInfo. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(bytes)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The certificate with this key in a chain of certificates in DER: what a joining zone looks for before it says anything.
    pub fn find_in<'a>(&self, chain: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
        chain.into_iter().find(|der| x509::spki(der).is_ok_and(|spki| bool::from(Self::of_spki(&spki).0.ct_eq(&self.0))))
    }

    /// `<token>#sha256:<pin>`: a token that also says which CA its plane has.
    pub fn append_to(&self, token: &str) -> String {
        format!("{token}{MARK}{self}")
    }
}

/// Takes the pin off a token, if it has one.
///
/// # Errors
/// When what stands behind `#sha256:` is no pin.
pub fn split_token(text: &str) -> Result<(&str, Option<Pin>), PinError> {
    match text.split_once(MARK) {
        None => Ok((text, None)),
        Some((token, pin)) => Ok((token, Some(pin.parse()?))),
    }
}

/// A text that is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is 64 lower case hexadecimal digits: the SHA-256 of a CA's public key")]
pub struct PinError;

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(PinError),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| PinError)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reads_what_it_writes_and_nothing_else() {
        let pin = Pin::of_spki(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        for bad in ["", "sha256:", &pin.to_string().to_uppercase(), &pin.to_string()[1..], &format!("{pin}0"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad}");
        }
    }

    #[test]
    fn a_token_carries_a_pin() {
        let pin = Pin::of_spki(b"key");
        assert_eq!(split_token(&pin.append_to("a.b.c")), Ok(("a.b.c", Some(pin))));
        assert_eq!(split_token("a.b.c"), Ok(("a.b.c", None)));
        assert_eq!(split_token("a.b.c#sha256:12"), Err(PinError));
    }
}
