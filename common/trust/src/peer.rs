//! The name of a zone's control plane in its client certificate.

use std::{fmt, str::FromStr};

use atoll_model::{ZoneUid, spiffe::SpiffeId};
use uuid::Uuid;

/// One instance of one zone's control plane: `spiffe://cp.<cluster id>/zone/<zone uid>/<instance>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZonePeer {
    /// The global control plane to which it belongs.
    pub cluster: Uuid,
    /// The zone.
    pub zone: ZoneUid,
    /// Which of the zone's instances: letters, digits, `.`, `-` and `_`.
    pub instance: String,
}

impl fmt::Display for ZonePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://cp.{}/zone/{}/{}", self.cluster, self.zone, self.instance)
    }
}

/// A text that names no zone's control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not spiffe://cp.<cluster id>/zone/<zone uid>/<instance>")]
pub struct NotAZonePeer(pub String);

impl FromStr for ZonePeer {
    type Err = NotAZonePeer;

    /// Takes the canonical form only.
    fn from_str(text: &str) -> Result<Self, NotAZonePeer> {
        let parse = || {
            let id: SpiffeId = text.parse().ok()?;
            let cluster = id.trust_domain.as_str().strip_prefix("cp.")?.parse().ok()?;
            let (zone, instance) = id.path.strip_prefix("/zone/")?.split_once('/')?;
            let peer = Self { cluster, zone: zone.parse().ok()?, instance: instance.to_owned() };
            (!instance.contains('/') && peer.to_string() == text).then_some(peer)
        };
        parse().ok_or_else(|| NotAZonePeer(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_name_is_read() {
        let peer = ZonePeer { cluster: Uuid::from_u128(1), zone: ZoneUid(Uuid::from_u128(0xab)), instance: "a-1".to_owned() };
        let text = peer.to_string();
        assert_eq!(text.parse(), Ok(peer));
        let upper = text.replace("0000ab", "0000AB");
        let (deeper, bare) = (format!("{text}/x"), text.replace("/a-1", ""));
        for bad in ["spiffe://cp.x/zone/y/z", &upper, &deeper, &bare, &text.replace("cp.", ""), &text.replace("zone", "node")] {
            assert!(bad.parse::<ZonePeer>().is_err(), "{bad}");
        }
    }
}
