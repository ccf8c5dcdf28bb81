//! Join tokens: `zj1.<id>.<secret>.<CA pin>`. One zone joins with it, once; global keeps only the hash.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::CryptoRng;
use ring::digest::{Context, SHA256};
use subtle::ConstantTimeEq;

use crate::{Pin, SecretText};

const PREFIX: &str = "zj1";
const ID_BYTES: usize = 12;
const SECRET_BYTES: usize = 32;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: [u8; SECRET_BYTES],
    pin: Pin,
}

/// What global keeps of a join token: SHA-256 over its id and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinHash(pub [u8; 32]);

impl JoinHash {
    /// Hashes what a zone sent.
    pub fn of(id: &str, secret: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [PREFIX.as_bytes(), b".", id.as_bytes(), b".", secret] {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &JoinHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl JoinToken {
    /// Makes a token for a global control plane whose CA has this pin.
    pub fn generate(pin: Pin, rng: &mut impl CryptoRng) -> Self {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        rng.fill_bytes(&mut id);
        rng.fill_bytes(&mut secret);
        Self { id: URL_SAFE_NO_PAD.encode(id), secret, pin }
    }

    /// By what global finds it. No secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The pin of global's CA: the zone says nothing to a server that cannot show it.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// What global keeps and compares.
    pub fn hash(&self) -> JoinHash {
        JoinHash::of(&self.id, &self.secret)
    }

    /// The secret as it travels to global, once global has shown its CA.
    pub fn expose_secret(&self) -> &[u8] {
        &self.secret
    }

    /// The token as the operator carries it.
    pub fn to_text(&self) -> SecretText {
        SecretText::new(format!("{PREFIX}.{}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret), self.pin))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

/// A text that is no join token. It does not say the text: that may be another secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected zj1.<id>.<secret>.<CA pin> as `atoll token zone` prints it")]
pub struct NotAJoinToken;

impl FromStr for JoinToken {
    type Err = NotAJoinToken;

    fn from_str(text: &str) -> Result<Self, NotAJoinToken> {
        let parts: [&str; 4] = text.split('.').collect::<Vec<_>>().try_into().map_err(|_| NotAJoinToken)?;
        let [PREFIX, id, secret, pin] = parts else { return Err(NotAJoinToken) };
        decode::<ID_BYTES>(id)?;
        Ok(Self { id: id.to_owned(), secret: decode(secret)?, pin: pin.parse().map_err(|_| NotAJoinToken)? })
    }
}

/// Exactly `N` bytes in canonical base64url.
fn decode<const N: usize>(text: &str) -> Result<[u8; N], NotAJoinToken> {
    URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NotAJoinToken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn token(seed: u64) -> JoinToken {
        JoinToken::generate(Pin::of_spki(b"ca"), &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn a_token_reads_what_it_writes() {
        let token = token(1);
        let text = token.to_text();
        assert_eq!(text.expose().parse(), Ok(token.clone()));
        assert!(text.expose().starts_with("zj1."));
        assert!(!format!("{token:?}").contains(&text.expose()[21..40]));
    }

    #[test]
    fn another_secret_or_id_has_another_hash() {
        let (one, two) = (token(1), token(2));
        let swapped = JoinToken { id: two.id.clone(), ..one.clone() };
        assert!(one.hash().matches(&one.hash()));
        assert!(!one.hash().matches(&two.hash()));
        assert!(!one.hash().matches(&swapped.hash()));
    }

    #[test]
    fn near_misses_are_refused() {
        let text = token(1).to_text().expose().to_owned();
        let (no_pin, _) = text.rsplit_once('.').unwrap();
        for bad in [
            "",
            "zj1...",
            no_pin,
            &format!("{text}.x"),
            &format!("{text} "),
            &format!(" {text}"),
            &text.replace("zj1.", "zj2."),
            &text.replacen('.', "..", 1),
            &text.to_uppercase(),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(NotAJoinToken), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_canonical(text in ".{0,120}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
        }

        #[test]
        fn a_changed_token_is_refused_or_has_another_hash(seed: u64, at in 0usize..180, byte in 0x21u8..0x7f) {
            let token = token(seed);
            let mut bytes = token.to_text().expose().as_bytes().to_vec();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(other) = text.parse::<JoinToken>() {
                let text_again = other.to_text();
                prop_assert_eq!(text_again.expose(), text.as_str());
                prop_assert!(other.pin() != token.pin() || !other.hash().matches(&token.hash()));
            }
        }
    }
}
