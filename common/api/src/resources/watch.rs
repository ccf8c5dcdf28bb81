//! A list that is followed: its state, then every change, as server-sent events.
//!
//! Events: `put` (data: the resource as GET shows it), `delete` (data: type, mesh, name, kri), `revision` (everything up to the
//! id has been sent). Each has the revision as its id; a client that comes back asks for `since=` the last one.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use atoll_model::{Change, Kind, Name, ResourceKey, Revision};
use atoll_store::TableSnapshot;
use axum::response::{
    IntoResponse, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures::{Stream, stream};
use http::StatusCode;
use serde_json::json;
use tokio::sync::watch::Receiver;

use super::list::is_selected;
use crate::{Plane, Problem, negotiate, present, problem::title, query::Selection};

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers with the stream.
pub(super) fn watch(
    plane: Plane,
    kind: Kind,
    mesh: Option<Name>,
    selection: Selection,
    since: Option<Revision>,
) -> Result<Response, Problem> {
    let tables = plane.store.subscribe();
    let table = plane.store.snapshot();
    if let Some(since) = since {
        refuse_unreachable(&table, since)?;
    }
    let watched = Watched { plane, kind, mesh, selection };
    let state = Following { watched, tables, sent: since, ready: VecDeque::new() };
    let response = Sse::new(events(state)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    Ok(negotiate::with_revision(response, table.revision()))
}

/// Deletions up to the horizon are forgotten: who is behind it must read the list again.
fn refuse_unreachable(table: &TableSnapshot, since: Revision) -> Result<(), Problem> {
    use atoll_sync::Feed;
    let detail = if since < table.horizon() {
        format!("changes up to revision {} are no more known one by one: watch without `since`", table.horizon())
    } else if since > table.revision() {
        format!("revision {since} is ahead of this plane ({}): watch without `since`", table.revision())
    } else {
        return Ok(());
    };
    Err(Problem::new(StatusCode::GONE, title::LIST, detail))
}

struct Watched {
    plane: Plane,
    kind: Kind,
    mesh: Option<Name>,
    selection: Selection,
}

struct Following {
    watched: Watched,
    tables: Receiver<Arc<TableSnapshot>>,
    sent: Option<Revision>,
    ready: VecDeque<Event>,
}

fn events(state: Following) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.ready.pop_front() {
                return Some((Ok(event), state));
            }
            let table = match state.sent {
                None => state.tables.borrow_and_update().clone(),
                Some(sent) => {
                    let newer = state.tables.wait_for(|table| table.revision() > sent).await.ok()?;
                    newer.clone()
                }
            };
            state.ready = match state.sent {
                None => state.watched.everything(&table),
                Some(sent) => state.watched.changes(&table, sent),
            };
            state.sent = Some(table.revision());
        }
    })
}

impl Watched {
    fn everything(&self, table: &TableSnapshot) -> VecDeque<Event> {
        let wanted = table.list(self.kind, self.mesh.as_ref());
        let wanted = wanted.filter(|resource| is_selected(&self.plane, table, &self.selection, resource));
        let puts = wanted.filter_map(|resource| self.put(table, &Change::Put(resource.clone())));
        puts.chain([mark(table.revision())]).collect()
    }

    fn changes(&self, table: &TableSnapshot, after: Revision) -> VecDeque<Event> {
        let is_watched = |key: &ResourceKey| key.kind == self.kind && self.mesh.as_ref().is_none_or(|mesh| key.mesh == *mesh);
        let changes = table.changes_since(after).filter(|change| is_watched(change.key()));
        changes.filter_map(|change| self.put(table, &change)).chain([mark(table.revision())]).collect()
    }

    /// The event of a change. What is no more selected looks deleted to who selects.
    fn put(&self, table: &TableSnapshot, change: &Change) -> Option<Event> {
        let event = Event::default().id(change.revision().to_string());
        match change {
            Change::Put(resource) if is_selected(&self.plane, table, &self.selection, resource) => {
                event.event("put").json_data(present::answer(&self.plane, table, resource)).ok()
            }
            Change::Put(_) | Change::Delete(_) => {
                let key = change.key();
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

fn mark(revision: Revision) -> Event {
    Event::default().id(revision.to_string()).event("revision").data(revision.to_string())
}
