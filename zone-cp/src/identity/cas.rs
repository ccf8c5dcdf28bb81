//! The CAs of one MeshIdentity in this zone: `identity/<alias>/cas.json`.

use std::path::{Path, PathBuf};

use atoll_model::{Kind, Owner, ResourceKey, Timestamp, alias, names, spiffe::TrustDomain};
use atoll_runtime::files;
use atoll_trust::{
    Pin,
    ca::{CaError, WorkloadCa},
};
use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::{
    rotation::{self, Circumstances},
    zone_dir::{DirError, damaged, read_json, write_json},
};

/// How far a CA is. All that did not expire are published; one issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaState {
    /// Published, so that everybody trusts it before it issues.
    Prepared,
    /// Issues.
    Active,
    /// Published as long as certificates of it may live.
    Retired,
}

/// A CA with its state.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) state: CaState,
    pub(super) ca: WorkloadCa,
    /// The request that it answers: the text of the label [`super::rotation::ROTATE`].
    pub(super) made_for: Option<String>,
    /// Since when it does not issue any more.
    pub(super) retired: Option<Timestamp>,
    /// Whether its key lasts: a CA that a restart would forget neither issues nor is published.
    pub(super) saved: bool,
}

impl Held {
    pub(super) fn new(state: CaState, ca: WorkloadCa, made_for: Option<String>) -> Self {
        Self { state, ca, made_for, retired: None, saved: false }
    }

    pub(super) fn retire(&mut self, now: Timestamp) {
        self.state = CaState::Retired;
        self.retired.get_or_insert(now);
    }
}

/// The CAs of one MeshIdentity.
#[derive(Debug)]
pub(super) struct Cas {
    folder: PathBuf,
    identity: ResourceKey,
    held: Vec<Held>,
    /// The list differs from its file.
    unsaved: bool,
    /// Which CA issued when this was last asked.
    issued_before: Option<Pin>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    mesh: String,
    name: String,
    owner: String,
    cas: Vec<StoredCa>,
}

#[derive(Serialize, Deserialize)]
struct StoredCa {
    state: CaState,
    certificate: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<Timestamp>,
}

impl Cas {
    /// The folder of a MeshIdentity; none if its name cannot be a file's.
    pub(super) fn folder(root: &Path, identity: &ResourceKey) -> Option<PathBuf> {
        let sound = names::name_fault(&identity.name, false).is_none();
        sound.then(|| root.join(alias::alias(&identity.mesh, &identity.name, &identity.owner.to_string())))
    }

    /// None yet.
    pub(super) fn new(folder: PathBuf, identity: ResourceKey) -> Self {
        Self { folder, identity, held: Vec::new(), unsaved: false, issued_before: None }
    }

    /// Reads a folder; none if it holds no CAs.
    pub(super) fn load(folder: PathBuf) -> Result<Option<Self>, DirError> {
        let path = folder.join("cas.json");
        let Some(stored) = read_json::<Stored>(&path)? else { return Ok(None) };
        let owner: Owner = stored.owner.parse().map_err(|error| damaged(&path, error))?;
        let identity = ResourceKey::new(Kind::MeshIdentity, stored.mesh, stored.name, owner);
        let load = |stored: StoredCa| {
            let ca = WorkloadCa::load(&stored.certificate, &stored.key).map_err(|error| damaged(&path, error))?;
            Ok(Held { state: stored.state, ca, made_for: stored.made_for, retired: stored.retired, saved: true })
        };
        let held = stored.cas.into_iter().map(load).collect::<Result<_, DirError>>()?;
        let mut cas = Self { folder, identity, held, unsaved: false, issued_before: None };
        cas.issued_before = cas.active().map(WorkloadCa::pin);
        Ok(Some(cas))
    }

    pub(super) fn identity(&self) -> &ResourceKey {
        &self.identity
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// The CA that issues.
    pub(super) fn active(&self) -> Option<&WorkloadCa> {
        self.held.iter().find(|held| held.saved && held.state == CaState::Active).map(|held| &held.ca)
    }

    /// The certificates that others should trust for `domain`.
    pub(super) fn published<'a>(&'a self, domain: &'a TrustDomain, now: Timestamp) -> impl Iterator<Item = &'a str> {
        let lives = move |held: &&Held| held.saved && held.ca.trust_domain() == domain && held.ca.not_after() > now;
        self.held.iter().filter(lives).map(|held| held.ca.cert_pem())
    }

    /// The CAs that are kept, with their states.
    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }

    /// Brings the list up to date, and writes it if it changed. Says whether another CA issues now.
    pub(super) fn advance(&mut self, at: &Circumstances<'_>, now: Timestamp, rng: &mut impl RngCore) -> Result<bool, CasError> {
        // A rotation that waits for nobody is done at once, so that nobody sees half of it.
        let steps = if at.force { 4 } else { 1 };
        for _ in 0..steps {
            let before = self.states();
            let stepped = rotation::step(&mut self.held, at, now, rng);
            let changed = before != self.states();
            self.unsaved |= changed;
            stepped?;
            self.save_changes()?;
            if !changed {
                break;
            }
        }
        let issues = self.active().map(WorkloadCa::pin);
        Ok(std::mem::replace(&mut self.issued_before, issues) != issues)
    }

    fn states(&self) -> Vec<(CaState, Pin, Option<String>)> {
        self.held.iter().map(|held| (held.state, held.ca.pin(), held.made_for.clone())).collect()
    }

    fn save_changes(&mut self) -> Result<(), DirError> {
        if self.unsaved {
            self.save()?;
            self.unsaved = false;
            self.held.iter_mut().for_each(|held| held.saved = true);
        }
        Ok(())
    }

    fn save(&self) -> Result<(), DirError> {
        files::private_dir(&self.folder).map_err(|source| DirError::File { path: self.folder.clone(), source })?;
        let stored = Stored {
            mesh: self.identity.mesh.to_string(),
            name: self.identity.name.to_string(),
            owner: self.identity.owner.to_string(),
            cas: self.held.iter().map(StoredCa::of).collect(),
        };
        write_json(&self.folder.join("cas.json"), &stored)
    }
}

impl StoredCa {
    fn of(held: &Held) -> Self {
        let (certificate, key) = (held.ca.cert_pem().to_owned(), held.ca.key_pem().expose().to_owned());
        Self { state: held.state, certificate, key, made_for: held.made_for.clone(), retired: held.retired }
    }
}

/// Why the CAs could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub(super) enum CasError {
    #[error("cannot make a workload CA")]
    Ca(#[from] CaError),
    #[error(transparent)]
    Dir(#[from] DirError),
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn cas(folder: &Path) -> Cas {
        let key = ResourceKey::new(Kind::MeshIdentity, "default", "identity", Owner::Global);
        Cas::new(Cas::folder(folder, &key).unwrap(), key)
    }

    fn alone(domain: &TrustDomain) -> Circumstances<'_> {
        let (distrusting, behind) = (&|_: &WorkloadCa| Vec::new(), &|_: &WorkloadCa| vec!["web-1".to_owned()]);
        Circumstances { domain, asked: None, force: false, leaf_life: TimeDelta::hours(24), distrusting, behind }
    }

    fn after(cas: &mut Cas, days: i64) -> Vec<CaState> {
        let domain = "azure.mesh".parse().unwrap();
        cas.advance(&alone(&domain), now() + TimeDelta::days(days), &mut StdRng::seed_from_u64(days as u64)).unwrap();
        cas.held.iter().map(|held| held.state).collect()
    }

    #[test]
    fn the_next_ca_is_trusted_long_before_it_issues() {
        use CaState::{Active, Prepared, Retired};
        let folder = tempfile::tempdir().unwrap();
        let mut cas = cas(folder.path());
        assert_eq!(after(&mut cas, 0), [Active]);
        assert_eq!(after(&mut cas, 44), [Active]);
        assert_eq!(after(&mut cas, 46), [Active, Prepared]);
        assert_eq!(after(&mut cas, 74), [Active, Prepared]);
        assert_eq!(after(&mut cas, 76), [Retired, Active]);
        let domain = "azure.mesh".parse().unwrap();
        assert_eq!(cas.published(&domain, now() + TimeDelta::days(76)).count(), 2);
        // A proxy that was not heard of since has no certificate that holds.
        assert_eq!(after(&mut cas, 78), [Active]);
    }

    #[test]
    fn a_zone_that_slept_too_long_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut cas = cas(folder.path());
        after(&mut cas, 0);
        assert_eq!(after(&mut cas, 200), [CaState::Active]);
    }

    #[test]
    fn a_list_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = cas(folder.path());
        after(&mut first, 0);
        let pin = first.active().unwrap().pin();
        let again = Cas::load(first.path().to_owned()).unwrap().unwrap();
        assert_eq!(again.active().map(WorkloadCa::pin), Some(pin));
        assert_eq!(again.identity(), first.identity());
        assert!(Cas::load(folder.path().join("other")).unwrap().is_none());
    }

    #[test]
    fn a_ca_that_cannot_be_kept_does_not_issue_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let (mut cas, domain) = (cas(folder.path()), "azure.mesh".parse().unwrap());
        let advance = |cas: &mut Cas| cas.advance(&alone(&domain), now(), &mut StdRng::seed_from_u64(1));
        std::fs::write(cas.path(), "in the way").unwrap();
        for _ in 0..2 {
            assert!(advance(&mut cas).is_err());
            assert!(cas.active().is_none() && cas.published(&domain, now()).next().is_none());
        }
        std::fs::remove_file(cas.path()).unwrap();
        assert!(advance(&mut cas).is_ok_and(|another| another), "who waits for it is told");
        let kept = Cas::load(cas.path().to_owned()).unwrap().unwrap();
        assert_eq!(kept.active().map(WorkloadCa::pin), cas.active().map(WorkloadCa::pin));
    }

    #[test]
    fn another_domain_is_another_ca() {
        let folder = tempfile::tempdir().unwrap();
        let mut cas = cas(folder.path());
        after(&mut cas, 0);
        let other: TrustDomain = "other.mesh".parse().unwrap();
        assert!(cas.advance(&alone(&other), now(), &mut StdRng::seed_from_u64(9)).unwrap());
        assert!(cas.advance(&alone(&other), now(), &mut StdRng::seed_from_u64(10)).is_ok_and(|changed| !changed));
        assert_eq!(cas.active().unwrap().trust_domain(), &other);
        assert_eq!(cas.published(&other, now()).count(), 1);
    }

    #[test]
    fn a_name_that_is_no_file_name_has_no_folder() {
        for bad in ["..", "a/b", "../../etc", ""] {
            let key = ResourceKey::new(Kind::MeshIdentity, "default", bad, Owner::Global);
            assert_eq!(Cas::folder(Path::new("/x"), &key), None);
        }
    }
}
