//! Names that cross the wire.

use atoll_model::{
    duration::GoDuration,
    kri::Kri,
    names as rules, sni as server_names,
    spiffe::{SpiffeId, TrustDomain},
};

use crate::text;

/// A KRI: what is read is written and read again as it was.
pub(crate) fn kri(bytes: &[u8]) {
    let Some(Ok(kri)) = text(bytes).map(str::parse::<Kri>) else { return };
    assert_eq!(kri.to_string().parse(), Ok(kri));
}

/// A server name: what is read as ours is the only one that its destination has.
pub(crate) fn sni(bytes: &[u8]) {
    let Some(sni) = text(bytes) else { return };
    if let Some(destination) = server_names::decode(sni)
        && sni.len() <= rules::NAME_MAX
    {
        assert_eq!(server_names::encode(&destination).as_deref(), Ok(sni));
    }
}

/// Identities, durations, names and labels.
pub(crate) fn names(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text, "an identity has one form only");
    }
    if let Ok(domain) = text.parse::<TrustDomain>() {
        assert_eq!(domain.to_string(), text);
    }
    if let Ok(duration) = text.parse::<GoDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
    let label = rules::is_rfc1035_label(text);
    assert_eq!(rules::label_faults(text).is_empty(), label);
    assert_eq!(rules::name_fault(text, true).is_none(), label);
    if label {
        assert!(rules::is_hostname(text) && rules::label_value_faults(text).is_empty());
    }
    if rules::label_key_faults(text).is_empty() {
        assert!(text.len() <= 253 + 1 + 63);
    }
}
