//! A list that is followed: its state, then every change, as server-sent events.
//!
//! Events: `put` (data: the resource as GET shows it), `delete` (data: type, mesh, name, kri), `revision` (everything up to this
//! revision has been sent). Each has a place in the history as its id; a client that comes back sends it as `Last-Event-ID`, or a
//! revision as `since=`. The last event says why a watch ends: `gone` (the changes since that place are not known one by one, or
//! are of another history: list again), `overrun` (the reader is too slow: resume), `stopping` (the plane ends: resume elsewhere).

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use atoll_model::{Change, ResourceKey, Revision, kinds::Access};
use atoll_store::TableSnapshot;
use atoll_sync::Feed;
use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures::{Stream, StreamExt, stream};
use http::HeaderName;
use serde_json::json;
use tokio::{sync::watch::Receiver, time::Instant};
use uuid::Uuid;

use crate::{
    Plane, Problem,
    access::{Permit, until_withdrawn},
    negotiate, present,
    query::{self, Ask, Selection, parameter},
    serve::Stopping,
};

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Changes that wait for a reader, at most: who is further behind is cut.
const WAITING_MAX: usize = 4096;
/// What a client that comes back has seen.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Answers with the stream.
pub(super) fn watch(plane: Plane, selection: Selection, ask: Ask) -> Result<Response, Problem> {
    ask.permit.require_some(Access::Watch, selection.kind)?;
    let since = Place::of(&ask)?;
    let tables = plane.store.subscribe();
    let table = plane.store.snapshot();
    let revision = table.revision();
    let watched = Watched { plane: plane.clone(), selection, permit: ask.permit.clone() };
    let start = since.map_or(Stage::All, Stage::Since);
    let marked = (Revision::default(), Instant::now());
    let following = Following { watched, tables, table, stage: start, waiting: VecDeque::new(), marked, stopping: ask.stopping };
    let events = until_withdrawn(plane, ask.permit, events(following));
    let response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    Ok(negotiate::with_revision(response, revision))
}

/// A place in a history. One without an epoch is taken on trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    revision: Revision,
    epoch: Option<Uuid>,
}

impl Place {
    /// Where a client wants to go on. What its last connection saw is newer than what its first request asked for.
    fn of(ask: &Ask) -> Result<Option<Self>, Problem> {
        let seen = ask.headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?"));
        let (name, text) = match seen.filter(|text| !text.is_empty()) {
            Some(text) => ("Last-Event-ID", text),
            None => match ask.query.text("since") {
                Some(text) => ("since", text),
                None => return Ok(None),
            },
        };
        let reason = "must be the id of an event, or a revision such as the Atoll-Revision of an earlier answer";
        Self::parse(text).map(Some).ok_or_else(|| parameter(name, reason.to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let (revision, epoch) = match text.split_once('-') {
            Some((revision, epoch)) => (revision, Some(epoch.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { revision: Revision(revision.parse().ok()?), epoch })
    }

    /// The id of events at a revision.
    fn id(table: &TableSnapshot, revision: Revision) -> String {
        match table.epochs().of(revision) {
            Some(epoch) => format!("{revision}-{}", epoch.id.simple()),
            None => revision.to_string(),
        }
    }

    /// Why a table does not lead on from here.
    fn fault(self, table: &TableSnapshot) -> Option<String> {
        let Self { revision, epoch } = self;
        let (horizon, head) = (table.horizon(), table.revision());
        if revision > head {
            Some(format!("revision {revision} is ahead of this plane, which is at {head}"))
        } else if epoch.is_some_and(|epoch| !table.epochs().holds(epoch, revision, head)) {
            Some(format!("revision {revision} belongs to another history: the store was put back in time"))
        } else if revision < horizon {
            Some(format!("changes up to revision {horizon} are no more known one by one"))
        } else {
            None
        }
    }
}

struct Watched {
    plane: Plane,
    selection: Selection,
    permit: Permit,
}

/// What comes next.
enum Stage {
    /// Everything that is there.
    All,
    /// The changes since a place.
    Since(Place),
    /// The changes since the table that was sent.
    Changes,
    /// Nothing: the last event was sent.
    Ended,
}

/// Why a watch that waited goes on.
enum Woken {
    Stopping,
    Late,
    Closed,
    Newer(Arc<TableSnapshot>),
}

struct Following {
    watched: Watched,
    tables: Receiver<Arc<TableSnapshot>>,
    /// The table up to which is sent when nothing waits any more.
    table: Arc<TableSnapshot>,
    stage: Stage,
    /// What was not sent yet: shared with the table, so that a reader who takes their time costs little.
    waiting: VecDeque<Change>,
    /// How far the reader last heard that everything was sent, and when.
    marked: (Revision, Instant),
    stopping: Stopping,
}

fn events(state: Following) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(state, |mut state| async move {
        let events = state.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), state))
    })
    .flatten()
}

impl Following {
    /// The next events: at least one, if there is any.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                let event = self.watched.event(&self.table, &change);
                let mark = self.waiting.is_empty().then(|| self.mark());
                return Some(event.into_iter().chain(mark).collect());
            }
            match std::mem::replace(&mut self.stage, Stage::Changes) {
                Stage::All => {
                    self.table = self.tables.borrow_and_update().clone();
                    self.waiting = self.watched.everything(&self.table);
                    if self.waiting.is_empty() {
                        return Some(vec![self.mark()]);
                    }
                }
                Stage::Since(place) => {
                    if let Some(last) = self.resume(place).await {
                        return Some(vec![last]);
                    }
                }
                Stage::Changes => {
                    if let Some(event) = self.follow().await? {
                        return Some(vec![event]);
                    }
                }
                Stage::Ended => {
                    self.stage = Stage::Ended;
                    return None;
                }
            }
        }
    }

    /// Takes up what changed since a place; what another instance wrote may be on its way.
    async fn resume(&mut self, place: Place) -> Option<Event> {
        query::reaches(&self.watched.plane, place.revision).await;
        self.table = self.tables.borrow_and_update().clone();
        if let Some(fault) = place.fault(&self.table) {
            return Some(self.end("gone", &format!("{fault}: watch without `since`, which begins with the list")));
        }
        self.waiting = self.watched.since(&self.table, place.revision);
        self.waiting.is_empty().then(|| self.mark())
    }

    /// Waits for a change. `None` ends the stream without a word: the store is gone.
    async fn follow(&mut self) -> Option<Option<Event>> {
        let sent = self.table.clone();
        let changed = self.tables.wait_for(|table| table.revision() > sent.revision() || !table.continues(&sent));
        let woken = tokio::select! {
            () = self.stopping.cancelled() => Woken::Stopping,
            // Whoever comes back after a long silence should not have to ask for what was pruned meanwhile.
            () = tokio::time::sleep_until(self.marked.1 + KEEP_ALIVE), if self.marked.0 < sent.revision() => Woken::Late,
            newer = changed => newer.map_or(Woken::Closed, |table| Woken::Newer(table.clone())),
        };
        let newer = match woken {
            Woken::Stopping => return Some(Some(self.end("stopping", "the plane stops: resume elsewhere"))),
            Woken::Late => return Some(Some(self.mark())),
            Woken::Closed => return None,
            Woken::Newer(table) => table,
        };
        if !newer.continues(&sent) {
            return Some(Some(self.end("gone", "the store was put back in time: watch again from the list")));
        }
        if sent.revision() < newer.horizon() {
            return Some(Some(self.end("gone", "the changes are no more known one by one: watch again from the list")));
        }
        let Some(changes) = self.watched.changes(&sent, &newer) else {
            return Some(Some(self.end("overrun", "too many changes wait for this reader: resume with the id of this event")));
        };
        self.waiting = changes;
        self.table = newer;
        Some(None)
    }

    fn mark(&mut self) -> Event {
        let revision = self.table.revision();
        self.marked = (revision, Instant::now());
        Event::default().id(Place::id(&self.table, revision)).event("revision").data(revision.to_string())
    }

    /// The last event. One that cannot be resumed from takes the reader's id away.
    fn end(&mut self, name: &str, detail: &str) -> Event {
        self.stage = Stage::Ended;
        let revision = self.table.revision();
        let id = if name == "gone" { String::new() } else { Place::id(&self.table, revision) };
        let event = Event::default().id(id).event(name);
        event.json_data(json!({"detail": detail, "revision": revision})).unwrap_or_default()
    }
}

impl Watched {
    fn everything(&self, table: &TableSnapshot) -> VecDeque<Change> {
        let there = self.selection.candidates(table).filter(|resource| self.shows(table, resource));
        there.map(|resource| Change::Put(resource.clone())).collect()
    }

    /// Changes of a client's past: what was selected then is not known, so that every deletion is told.
    fn since(&self, table: &TableSnapshot, revision: Revision) -> VecDeque<Change> {
        table.changes_since(revision).filter(|change| self.is_about(change.key())).collect()
    }

    /// Changes between two tables, unless they are too many. What was not selected before and is not now is none.
    fn changes(&self, old: &TableSnapshot, new: &TableSnapshot) -> Option<VecDeque<Change>> {
        let about = new.changes_since(old.revision()).filter(|change| self.is_about(change.key()));
        let was_shown = |key: &ResourceKey| old.get(key).is_some_and(|resource| self.shows(old, resource));
        let is_shown = |change: &Change| match change {
            Change::Put(resource) => self.shows(new, resource),
            Change::Delete(_) => false,
        };
        let changes: VecDeque<_> =
            about.filter(|change| is_shown(change) || was_shown(change.key())).take(WAITING_MAX + 1).collect();
        (changes.len() <= WAITING_MAX).then_some(changes)
    }

    fn is_about(&self, key: &ResourceKey) -> bool {
        key.kind == self.selection.kind && self.selection.mesh.as_ref().is_none_or(|mesh| key.mesh == *mesh)
    }

    fn shows(&self, table: &TableSnapshot, resource: &atoll_model::Resource) -> bool {
        self.selection.holds(&self.plane, table, resource) && self.permit.may(&self.plane, table, Access::Watch, &resource.key)
    }

    /// The event of a change. What is no more selected looks deleted to who selects.
    fn event(&self, table: &TableSnapshot, change: &Change) -> Option<Event> {
        let event = Event::default().id(Place::id(table, change.revision()));
        match change {
            Change::Put(resource) if self.shows(table, resource) => {
                event.event("put").json_data(present::answer(&self.plane, table, resource)).ok()
            }
            Change::Put(_) | Change::Delete(_) => {
                let key = change.key();
                if !self.permit.may(&self.plane, table, Access::Watch, key) {
                    return None;
                }
                let gone = json!({
                    "type": key.kind.name(),
                    "mesh": key.mesh.as_str(),
                    "name": present::shown_name(&self.plane, table, key),
                    "kri": present::kri(&self.plane, table, key).to_string(),
                });
                event.event("delete").json_data(gone).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ids_and_bare_revisions() {
        let epoch = Uuid::from_u128(7);
        let place = |revision, epoch| Some(Place { revision: Revision(revision), epoch });
        assert_eq!(Place::parse("17"), place(17, None));
        assert_eq!(Place::parse(&format!("17-{}", epoch.simple())), place(17, Some(epoch)));
        for rubbish in ["", "x", "-1", "17-", "17-x", "1-2-3"] {
            assert_eq!(Place::parse(rubbish), None, "{rubbish:?}");
        }
    }
}
