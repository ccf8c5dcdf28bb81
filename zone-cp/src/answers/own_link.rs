//! This zone's link, as its own REST speaks of it.

use atoll_api::{LinkError, Links, Question, Word};
use atoll_link::{Phase, ZoneLink};
use atoll_model::{Kind, Name};
use serde_json::{Value, json};

use super::Answers;

/// The links of a zone: at most one, with global.
pub struct OwnLink {
    /// This zone.
    pub zone: Name,
    /// The link; none in a zone that stands alone.
    pub link: Option<ZoneLink>,
    /// What this zone says of itself.
    pub answers: Answers,
}

#[tonic::async_trait]
impl Links for OwnLink {
    async fn ask(&self, zone: &Name, question: Question) -> Result<Value, LinkError> {
        if *zone != self.zone {
            return Err(LinkError::NotHere(format!(
                "this is zone {}: ask global, or the control plane of zone {zone}",
                self.zone
            )));
        }
        self.answers.about(question.path()).await.map_err(LinkError::Failed)
    }

    async fn say(&self, zone: Option<&Name>, word: Word) -> Result<Value, LinkError> {
        if zone.is_some() {
            return Err(LinkError::NotHere("what global holds back of a zone is released on global".to_owned()));
        }
        let stands_alone = || LinkError::NotHere("this zone stands alone: it has no link".to_owned());
        let link = self.link.as_ref().ok_or_else(stands_alone)?;
        match word {
            Word::Release(kind) => {
                let held = held(link, kind)?;
                connected(link.release(kind).await)?;
                Ok(json!({ "kind": kind.name(), "released": held }))
            }
            Word::Keep(kind) => {
                let held = held(link, kind)?;
                if link.status().borrow().phase != Phase::Restoring {
                    let why = "this zone restores nothing now: what it holds are deletions of global's resources; release them, or leave \
                               them held";
                    return Err(LinkError::Nothing(why.to_owned()));
                }
                connected(link.keep(kind).await)?;
                Ok(json!({ "kind": kind.name(), "kept": held }))
            }
            Word::Follow => follow(link).await,
        }
    }
}

/// How many resources of a kind are held.
fn held(link: &ZoneLink, kind: Kind) -> Result<u64, LinkError> {
    let held = link.status().borrow().held.get(kind.name()).copied();
    held.ok_or_else(|| LinkError::Nothing(format!("this zone holds nothing of {kind}")))
}

async fn follow(link: &ZoneLink) -> Result<Value, LinkError> {
    if link.status().borrow().phase != Phase::OtherHistory {
        let why = "global does not show another history than this zone's now: there is nothing to follow";
        return Err(LinkError::Nothing(why.to_owned()));
    }
    connected(link.follow().await)?;
    Ok(json!({ "following": true }))
}

fn connected(done: bool) -> Result<(), LinkError> {
    let why = "the link to global is down; when it is back, say it again";
    if done { Ok(()) } else { Err(LinkError::NotConnected(why.to_owned())) }
}
