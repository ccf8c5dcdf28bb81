//! What the zone shows and trusts on the link.

use atoll_link::{Credentials, ZoneIdentity};
use atoll_model::{Name, Timestamp};
use atoll_runtime::tls;
use atoll_trust::{PrivateKey, SecretText, x509};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::zone_dir::{DirError, ZoneDir, damaged, read, read_json, write, write_json};

/// The part of a certificate's life after which it is renewed, as a divisor: a zone that was cut off for 20 days comes back by
/// itself.
pub const RENEW_LINK_AFTER: i32 = 3;

/// The zone's membership in a cluster.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The cluster.
    pub cluster_id: Uuid,
    /// The name under which global knows the zone.
    pub zone_name: Name,
    /// When its certificate begins.
    pub not_before: Timestamp,
    /// When its certificate ends.
    pub not_after: Timestamp,
    chain_pem: String,
    ca_pem: String,
    key_pem: SecretText,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    cluster_id: Uuid,
    zone_name: String,
    chain: String,
    ca: String,
    key: String,
}

impl Joined {
    /// For the link.
    ///
    /// # Errors
    /// When rustls does not take what is stored.
    pub fn identity(&self) -> Result<ZoneIdentity, tls::TlsError> {
        Ok(ZoneIdentity {
            roots: tls::roots_from_pem(&self.ca_pem)?,
            chain: tls::chain_from_pem(&self.chain_pem)?,
            key: tls::key_from_pem(self.key_pem.expose())?,
        })
    }

    /// When the certificate is renewed: when a third of its life is over.
    pub fn renew_at(&self) -> Timestamp {
        self.not_before + (self.not_after - self.not_before) / RENEW_LINK_AFTER
    }
}

impl ZoneDir {
    /// The zone's membership; none until it joined.
    ///
    /// # Errors
    /// When the file is damaged or open to others.
    pub fn joined(&self) -> Result<Option<Joined>, DirError> {
        let path = self.path("link.json");
        let Some(stored) = read_json::<Stored>(&path)? else { return Ok(None) };
        let facts = x509::Facts::of_pem(&stored.chain).map_err(|error| damaged(&path, error))?;
        let key = PrivateKey::from_pem(&stored.key).map_err(|error| damaged(&path, error))?;
        if facts.pin != key.pin() {
            return Err(damaged(&path, "certificate and key do not belong together"));
        }
        Ok(Some(Joined {
            cluster_id: stored.cluster_id,
            zone_name: stored.zone_name.into(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            chain_pem: stored.chain,
            ca_pem: stored.ca,
            key_pem: stored.key.into(),
        }))
    }

    /// The key for the next certificate. It stays the same until that certificate came, so that a lost answer can be asked for
    /// again.
    ///
    /// # Errors
    /// When the file is damaged, open to others, or cannot be written.
    pub fn pending_key(&self) -> Result<PrivateKey, DirError> {
        let path = self.path("link.pending.pem");
        if let Some(pem) = read(&path)? {
            return PrivateKey::from_pem(&pem).map_err(|error| damaged(&path, error));
        }
        let key = PrivateKey::generate()?;
        write(&path, key.to_pem().expose().as_bytes())?;
        Ok(key)
    }

    /// Keeps a certificate for the pending key.
    ///
    /// # Errors
    /// When it is for another key or another zone, or cannot be written; the old one stays then.
    pub fn install(&self, credentials: &Credentials) -> Result<Joined, DirError> {
        let (path, key) = (self.path("link.json"), self.pending_key()?);
        let chain = pem(&credentials.chain);
        let facts = x509::Facts::of_pem(&chain).map_err(|error| damaged(&path, error))?;
        let zone = facts.only_uri().and_then(|uri| uri.parse::<atoll_trust::ZonePeer>().ok());
        let expected = (self.uid(), credentials.cluster_id);
        if facts.pin != key.pin() || zone.map(|zone: atoll_trust::ZonePeer| (zone.zone, zone.cluster)) != Some(expected) {
            return Err(damaged(&path, "the certificate that global sent is for another key or zone"));
        }
        let (ca, key_pem) = (pem(&credentials.cas), key.to_pem().expose().to_owned());
        let zone_name = credentials.zone_name.to_string();
        write_json(&path, &Stored { cluster_id: credentials.cluster_id, zone_name, chain, ca, key: key_pem })?;
        // A key that stays behind is used for the next certificate, which does no harm.
        let _ = std::fs::remove_file(self.path("link.pending.pem"));
        self.joined()?.ok_or_else(|| damaged(&path, "it was not written"))
    }
}

fn pem(chain: &[bytes::Bytes]) -> String {
    chain.iter().map(|der| x509::to_pem(der)).collect()
}

#[cfg(test)]
mod tests {
    use atoll_trust::{ZonePeer, ca::ControlPlaneCa};
    use bytes::Bytes;
    use chrono::TimeDelta;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn now() -> Timestamp {
        "2030-01-01T12:00:00Z".parse().unwrap()
    }

    fn open(folder: &tempfile::TempDir) -> ZoneDir {
        ZoneDir::open(&folder.path().join("zone"), &mut StdRng::seed_from_u64(1)).unwrap()
    }

    /// What global answers to the zone's pending key.
    fn credentials(zone: &ZoneDir, now: Timestamp, edit: impl FnOnce(&mut ZonePeer)) -> Credentials {
        let (cluster, mut rng) = (Uuid::from_u128(7), StdRng::seed_from_u64(2));
        let ca = ControlPlaneCa::generate(cluster, now, &mut rng).unwrap();
        let mut peer = ZonePeer { cluster, zone: zone.uid(), instance: "1".to_owned() };
        edit(&mut peer);
        let request = zone.pending_key().unwrap().request().unwrap();
        let made = ca.issue_zone(&request, &peer, now, &mut rng).unwrap();
        let der = |pem: &str| x509::chain(pem).unwrap().iter().map(|der| Bytes::copy_from_slice(der)).collect();
        Credentials { chain: der(&made.chain_pem), cas: der(ca.cert_pem()), cluster_id: cluster, zone_name: "azure".into() }
    }

    #[test]
    fn a_zone_that_joined_knows_it_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let zone = open(&folder);
        assert!(zone.joined().unwrap().is_none());
        let joined = zone.install(&credentials(&zone, now(), |_| ())).unwrap();
        assert_eq!((joined.zone_name.as_str(), joined.not_after), ("azure", now() + TimeDelta::days(30)));
        // Its life begins a little before it is issued, for clocks that are late.
        let early = now() + TimeDelta::days(10) - joined.renew_at();
        assert!(early >= TimeDelta::zero() && early < TimeDelta::hours(1), "{early}");
        let again = open(&folder).joined().unwrap().unwrap();
        assert_eq!((again.cluster_id, again.not_after), (joined.cluster_id, joined.not_after));
        atoll_runtime::tls::install_provider();
        assert_eq!(again.identity().unwrap().chain.len(), 2);
        assert!(!format!("{again:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn a_lost_answer_is_asked_for_with_the_same_key_and_the_next_one_with_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(&folder).pending_key().unwrap().pin();
        let zone = open(&folder);
        assert_eq!(zone.pending_key().unwrap().pin(), first);
        zone.install(&credentials(&zone, now(), |_| ())).unwrap();
        assert_ne!(zone.pending_key().unwrap().pin(), first);
        // A renewal that is refused leaves what there is.
        assert!(zone.joined().unwrap().is_some());
    }

    #[test]
    fn a_certificate_of_somebody_else_is_not_installed() {
        let folder = tempfile::tempdir().unwrap();
        let zone = open(&folder);
        let other = credentials(&zone, now(), |peer| peer.zone = atoll_model::ZoneUid(Uuid::from_u128(3)));
        assert!(zone.install(&other).is_err());
        let cluster = credentials(&zone, now(), |peer| peer.cluster = Uuid::from_u128(4));
        assert!(zone.install(&cluster).is_err());
        let late = credentials(&zone, now(), |_| ());
        std::fs::remove_file(zone.path("link.pending.pem")).unwrap();
        assert!(zone.install(&late).is_err());
        assert!(zone.joined().unwrap().is_none());
    }
}
