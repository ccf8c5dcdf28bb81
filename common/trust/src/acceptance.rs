//! Whose CA may judge which trust domain.
//!
//! One bundle per trust domain keeps zones apart only while no zone can fill another's bundle. So a zone's MeshTrust is taken for
//! exactly the domain that global recorded for that MeshIdentity and zone, and only with CAs that cannot speak for another domain.

use std::collections::BTreeMap;

use atoll_model::{
    Name, ZoneUid,
    hostname::TemplateError,
    kinds::{MeshIdentity, MeshTrust, mesh_identity::ProviderKind},
    spiffe::TrustDomain,
};

use crate::x509::{self, Facts, ReadError};

/// How many CAs one MeshTrust may hold: one in use, one before it, one after it, and room.
pub const MOST_CAS: usize = 8;

/// Why a CA may not stand in a zone's MeshTrust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// It is no CA.
    #[error("the certificate is not of a CA")]
    NotACa,
    /// It has no name constraints.
    #[error("the CA has no name constraints: it could speak for every trust domain")]
    NoConstraints,
    /// A verifier may pass them over.
    #[error("the CA's name constraints are not critical: a verifier may pass them over")]
    NotCritical,
    /// They permit no trust domain, more than one, or something that is none.
    #[error("the CA's name constraints must permit exactly one URI host, its trust domain; they permit {0:?}")]
    Permitted(Vec<String>),
    /// They leave room for names that are no SPIFFE id.
    #[error("the CA's name constraints must exclude every DNS name and address; {0} are not excluded")]
    Excluded(&'static str),
}

/// Why a zone's MeshTrust is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no MeshIdentity of its name.
    #[error("there is no MeshIdentity {0:?} whose trust it could be")]
    NoIdentity(String),
    /// Global recorded no trust domain for that zone yet.
    #[error("no trust domain is recorded for MeshIdentity {identity:?} in zone {zone}")]
    NotRecorded {
        /// The MeshIdentity.
        identity: String,
        /// The zone.
        zone: ZoneUid,
    },
    /// It is for another trust domain.
    #[error("zone {zone} may speak for the trust domain {recorded:?}, not for {claimed:?}")]
    OtherDomain {
        /// The zone.
        zone: ZoneUid,
        /// What is recorded.
        recorded: String,
        /// What it claims.
        claimed: String,
    },
    /// The recorded domain is recorded for another zone too, so that neither can be told from the other.
    #[error("the trust domain {domain:?} is recorded for two zones, {zone} and {other}")]
    SharedDomain {
        /// The domain.
        domain: String,
        /// The zone.
        zone: ZoneUid,
        /// The other zone.
        other: ZoneUid,
    },
    /// It holds no CA, or more than [`MOST_CAS`].
    #[error("it must hold 1 to {MOST_CAS} CAs, and holds {0}")]
    Count(usize),
    /// A CA cannot be read, or a private key stands beside it.
    #[error("CA {index} cannot be read")]
    Unreadable {
        /// Which CA.
        index: usize,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A CA is not made by the recipe.
    #[error("CA {index}: {fault}")]
    Ca {
        /// Which CA.
        index: usize,
        /// Why.
        fault: CaFault,
    },
    /// A CA is made for another trust domain.
    #[error("CA {index} is constrained to {constrained:?}, not to {claimed:?}")]
    OtherCa {
        /// Which CA.
        index: usize,
        /// The domain in its constraints.
        constrained: String,
        /// The domain of the MeshTrust.
        claimed: String,
    },
}

/// Judges the MeshTrust `name` of a zone. `identities` are the mesh's MeshIdentities that **global owns**, by name: of its own
/// MeshIdentities a zone writes the records itself.
///
/// Global judges before it stores, and each receiving zone judges again: what global stores is not believed for being stored.
///
/// # Errors
/// The first reason to refuse it.
pub fn judge(
    name: &Name,
    owner: ZoneUid,
    trust: &MeshTrust,
    identities: &BTreeMap<Name, MeshIdentity>,
) -> Result<TrustDomain, Refusal> {
    let identity = identities.get(name).ok_or_else(|| Refusal::NoIdentity(name.to_string()))?;
    let zone = owner.to_string();
    let Some(recorded) = identity.trust_domains.get(&zone) else {
        return Err(Refusal::NotRecorded { identity: name.to_string(), zone: owner });
    };
    let claimed = &trust.trust_domain;
    let domain = recorded.parse::<TrustDomain>().ok().filter(|_| recorded == claimed).ok_or_else(|| Refusal::OtherDomain {
        zone: owner,
        recorded: recorded.clone(),
        claimed: claimed.clone(),
    })?;
    if let Some(other) = other_zone_of(recorded, owner, identities)
        && !brings_ca(identity)
    {
        return Err(Refusal::SharedDomain { domain: recorded.clone(), zone: owner, other });
    }
    judge_bundles(trust, &domain)?;
    Ok(domain)
}

/// Judges the CAs of a MeshTrust against the trust domain that they are for.
///
/// # Errors
/// The first CA that may not stand there.
pub fn judge_bundles(trust: &MeshTrust, domain: &TrustDomain) -> Result<(), Refusal> {
    if !(1..=MOST_CAS).contains(&trust.ca_bundles.len()) {
        return Err(Refusal::Count(trust.ca_bundles.len()));
    }
    for (index, bundle) in trust.ca_bundles.iter().enumerate() {
        let facts = read_alone(&bundle.pem.value).map_err(|source| Refusal::Unreadable { index, source })?;
        let constrained = domain_of(&facts).map_err(|fault| Refusal::Ca { index, fault })?;
        if constrained != *domain {
            let (constrained, claimed) = (constrained.to_string(), domain.to_string());
            return Err(Refusal::OtherCa { index, constrained, claimed });
        }
    }
    Ok(())
}

/// The trust domain for which a CA can speak.
///
/// # Errors
/// When its constraints leave room for anything else.
pub fn domain_of(ca: &Facts) -> Result<TrustDomain, CaFault> {
    if !ca.is_ca {
        return Err(CaFault::NotACa);
    }
    let constraints = ca.constraints.as_ref().ok_or(CaFault::NoConstraints)?;
    if !constraints.critical {
        return Err(CaFault::NotCritical);
    }
    let uris: Vec<_> = constraints.permitted.iter().filter_map(|name| name.strip_prefix("uri:")).collect();
    // A host with a dot in front would permit every domain below it.
    let domain = match uris.as_slice() {
        [uri] if !uri.starts_with('.') => uri.parse().ok(),
        _ => None,
    };
    let domain = domain.ok_or_else(|| CaFault::Permitted(constraints.permitted.clone()))?;
    let every_address = |bytes: usize| format!("ip:{}", "00".repeat(bytes));
    for (needed, what) in
        [("dns:".to_owned(), "DNS names"), (every_address(8), "IPv4 addresses"), (every_address(32), "IPv6 addresses")]
    {
        if !constraints.excluded.contains(&needed) {
            return Err(CaFault::Excluded(what));
        }
    }
    Ok(domain)
}

/// Reads a PEM text that is one certificate and nothing else. Envoy's reader also takes other labels than `CERTIFICATE`: what
/// stood under them would be believed without having been judged.
fn read_alone(pem: &str) -> Result<Facts, ReadError> {
    let [der] = <[_; 1]>::try_from(x509::chain(pem)?).map_err(|_| ReadError::NotPem)?;
    let bare = |text: &str| text.split_ascii_whitespace().collect::<String>();
    if bare(pem) != bare(&x509::to_pem(&der)) {
        return Err(ReadError::NotPem);
    }
    Facts::of_der(&der)
}

fn other_zone_of(domain: &str, zone: ZoneUid, identities: &BTreeMap<Name, MeshIdentity>) -> Option<ZoneUid> {
    let recorded = identities.values().flat_map(|identity| &identity.trust_domains);
    recorded.filter(|(_, other)| *other == domain).filter_map(|(uid, _)| uid.parse().ok()).find(|uid| *uid != zone)
}

/// Whether the operator brings the CA, so that zones may share it.
fn brings_ca(identity: &MeshIdentity) -> bool {
    identity.provider.as_ref().is_some_and(|provider| provider.bundled.as_ref().is_some_and(|bundled| bundled.ca.is_some()))
}

/// Whether zones issue for it, each with a CA of its own.
pub fn zones_issue(identity: &MeshIdentity) -> bool {
    identity.provider.as_ref().is_some_and(|provider| match provider.kind {
        ProviderKind::Bundled => provider.bundled.as_ref().is_some_and(|bundled| {
            bundled.ca.is_none() && bundled.autogenerate.as_ref().is_some_and(|autogenerate| autogenerate.enabled)
        }),
        ProviderKind::Spire | ProviderKind::Extension => false,
    })
}

/// Why a MeshIdentity gets no trust domain in a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainFault {
    /// The template fails.
    #[error("the trust domain's template fails")]
    Template(#[source] TemplateError),
    /// Every zone would get the same one.
    #[error(
        "every zone would get the trust domain {0:?} and could speak for the others: use {{{{ .Zone }}}} in it, or bring the CA"
    )]
    SameInEveryZone(String),
    /// Another zone has it.
    #[error("the trust domain {domain:?} is recorded for zone {holder}")]
    Taken {
        /// The domain.
        domain: String,
        /// Who has it.
        holder: ZoneUid,
    },
}

/// Refuses a MeshIdentity whose zones would share one trust domain although each makes its own CA.
///
/// # Errors
/// When they would, or when the template fails.
pub fn separates_zones(identity: &MeshIdentity, mesh: &str) -> Result<(), DomainFault> {
    if !zones_issue(identity) {
        return Ok(());
    }
    let in_zone = |zone: &str| identity.trust_domain(mesh, zone).map_err(DomainFault::Template);
    let (one, two) = (in_zone("one")?, in_zone("two")?);
    if one == two { Err(DomainFault::SameInEveryZone(one.to_string())) } else { Ok(()) }
}

/// What global should record: see [`record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// The whole new record of each MeshIdentity whose record changes: zone UID → trust domain.
    pub changed: BTreeMap<Name, BTreeMap<String, String>>,
    /// Who gets none, and why.
    pub refused: Vec<(Name, ZoneUid, DomainFault)>,
}

/// Plans the records of trust domains of one mesh. What is recorded stays as it is, whatever becomes of the template, until the
/// zone itself is gone; a zone that comes back under its old name is another zone, and may then have the old zone's domain.
pub fn record(identities: &BTreeMap<Name, MeshIdentity>, mesh: &str, zones: &BTreeMap<ZoneUid, Name>) -> Recording {
    let mut kept: BTreeMap<&Name, BTreeMap<String, String>> = BTreeMap::new();
    let mut holders: BTreeMap<String, ZoneUid> = BTreeMap::new();
    for (name, identity) in identities {
        let live = identity.trust_domains.iter().filter_map(|(uid, domain)| Some((uid.parse::<ZoneUid>().ok()?, domain)));
        let record = kept.entry(name).or_default();
        for (uid, domain) in live.filter(|(uid, _)| zones.contains_key(uid)) {
            holders.entry(domain.clone()).or_insert(uid);
            record.insert(uid.to_string(), domain.clone());
        }
    }
    let mut recording = Recording::default();
    for (name, identity) in identities {
        let record = kept.entry(name).or_default();
        for (uid, zone) in zones.iter().filter(|_| identity.provider.is_some()) {
            if record.contains_key(&uid.to_string()) {
                continue;
            }
            match domain_for(identity, mesh, *uid, zone, &holders) {
                Ok(domain) => {
                    holders.entry(domain.clone()).or_insert(*uid);
                    record.insert(uid.to_string(), domain);
                }
                Err(fault) => recording.refused.push((name.clone(), *uid, fault)),
            }
        }
        if *record != identity.trust_domains {
            recording.changed.insert(name.clone(), record.clone());
        }
    }
    recording
}

fn domain_for(
    identity: &MeshIdentity,
    mesh: &str,
    uid: ZoneUid,
    zone: &str,
    holders: &BTreeMap<String, ZoneUid>,
) -> Result<String, DomainFault> {
    separates_zones(identity, mesh)?;
    let domain = identity.trust_domain(mesh, zone).map_err(DomainFault::Template)?.to_string();
    match holders.get(&domain) {
        Some(holder) if *holder != uid && !brings_ca(identity) => Err(DomainFault::Taken { domain, holder: *holder }),
        Some(_) | None => Ok(domain),
    }
}

#[cfg(test)]
mod tests;
