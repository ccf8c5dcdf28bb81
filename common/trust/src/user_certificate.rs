//! What a client certificate of a person or program says of its holder: read, once TLS has verified it.

use atoll_model::Timestamp;
use chrono::DateTime;
use ring::digest::{SHA256, digest};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::x509::{self, ReadError};

/// Longest name of a user or group.
const NAME_MAX: usize = 256;
/// Most groups that one certificate may name.
const GROUPS_MAX: usize = 200;

/// A certificate whose subject names a user (CN) and the user's groups (O).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCertificate {
    /// The user.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
    /// End of its life.
    pub not_after: Timestamp,
    /// `sha256:` and the SHA-256 of the certificate in hexadecimal: its name in lists of what was revoked.
    pub fingerprint: String,
}

/// Why a certificate names no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoUser {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// None, or more than one: nobody could say which of them is meant.
    #[error("its subject must have exactly one CN, the name of the user")]
    CommonName,
    /// A name that could not be shown, or is in an encoding of old.
    #[error("each CN and O of its subject must be a text of 1 to 256 bytes without control characters")]
    Text,
    /// More than any sane issuer writes.
    #[error("its subject has more than {GROUPS_MAX} O")]
    Groups,
}

impl UserCertificate {
    /// Reads a certificate in DER. Says nothing of who signed it, and whether it holds now.
    ///
    /// # Errors
    /// When it does not name exactly one user.
    pub fn of_der(der: &[u8]) -> Result<Self, NoUser> {
        let certificate = x509::parse(der)?;
        let names = texts(certificate.subject(), X509Name::iter_common_name)?;
        let groups = texts(certificate.subject(), X509Name::iter_organization)?;
        let [name] = names.as_slice() else { return Err(NoUser::CommonName) };
        if groups.len() > GROUPS_MAX {
            return Err(NoUser::Groups);
        }
        let not_after = DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0).ok_or(ReadError::NotDer)?;
        let hash: String = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name: name.clone(), groups, not_after, fingerprint: format!("sha256:{hash}") })
    }
}

/// The values of one attribute of a subject. One that cannot be read spoils them all: who knows whom it named.
fn texts<'a, I>(subject: &'a X509Name<'a>, values: impl Fn(&'a X509Name<'a>) -> I) -> Result<Vec<String>, NoUser>
where
    I: Iterator<Item = &'a AttributeTypeAndValue<'a>>,
{
    let plain = |text: &&str| (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    values(subject).map(|value| value.as_str().ok().filter(plain).map(str::to_owned).ok_or(NoUser::Text)).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, date_time_ymd};

    use super::*;

    fn read(subject: Vec<(DnType, DnValue)>) -> Result<UserCertificate, NoUser> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        subject.into_iter().for_each(|(kind, value)| params.distinguished_name.push(kind, value));
        params.not_after = date_time_ymd(2030, 1, 2);
        UserCertificate::of_der(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    /// rcgen takes one value of each type: a second one is spelt by its number.
    fn again(number: u64) -> DnType {
        DnType::CustomDnType(vec![2, 5, 4, number])
    }

    #[test]
    fn the_subject_names_user_and_groups() {
        let groups = vec![(DnType::OrganizationName, utf8("team-a")), (again(10), utf8("team-b"))];
        let ann = read([groups, vec![(DnType::CommonName, utf8("Änn"))]].concat()).unwrap();
        assert_eq!((ann.name.as_str(), ann.groups), ("Änn", vec!["team-a".to_owned(), "team-b".to_owned()]));
        assert_eq!(ann.not_after, "2030-01-02T00:00:00Z".parse::<Timestamp>().unwrap());
        assert!(ann.fingerprint.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64), "{}", ann.fingerprint);
    }

    #[test]
    fn a_subject_that_names_nobody_for_sure_names_nobody() {
        let name = || (DnType::CommonName, utf8("ann"));
        let old = DnValue::BmpString("ops".try_into().unwrap());
        for (subject, fault) in [
            (vec![], NoUser::CommonName),
            (vec![(DnType::OrganizationName, utf8("team-a"))], NoUser::CommonName),
            (vec![name(), (again(3), utf8("eve"))], NoUser::CommonName),
            (vec![(DnType::CommonName, utf8(""))], NoUser::Text),
            (vec![(DnType::CommonName, utf8("ann\0eve"))], NoUser::Text),
            (vec![(DnType::CommonName, utf8(&"a".repeat(NAME_MAX + 1)))], NoUser::Text),
            (vec![name(), (DnType::OrganizationName, old)], NoUser::Text),
        ] {
            assert_eq!(read(subject.clone()), Err(fault), "{subject:?}");
        }
        assert_eq!(UserCertificate::of_der(b"x"), Err(NoUser::Unreadable(ReadError::NotDer)));
    }
}
