//! Complete snapshots of kinds, in parts.

use std::{collections::VecDeque, sync::Arc};

use atoll_model::{Change, Kind, Revision};

use super::{Wanted, parcel::Parcel};
use crate::{
    View,
    digest::{Sum, contribution_of},
    proto,
    visibility::{Route, kind_travels, visible_to},
};

/// Snapshots of some kinds, all of one view of the table.
#[derive(Debug)]
pub(super) struct Run {
    view: Arc<View>,
    kinds: VecDeque<Wanted>,
    position: Revision,
    total: Sum,
    begun: bool,
    /// What the peer has when the whole run is through; `None` when that changes nothing.
    pub(super) completes: Option<Revision>,
}

impl Run {
    /// The kinds that were asked for.
    pub(super) fn of(view: Arc<View>, kinds: VecDeque<Wanted>) -> Self {
        Self { view, kinds, position: Revision(0), total: Sum::default(), begun: false, completes: None }
    }

    /// All kinds that travel: afterwards the peer has everything up to the view's head.
    pub(super) fn everything(view: Arc<View>, route: Route) -> Self {
        let kinds = Kind::ALL.iter().filter(|kind| kind_travels(**kind, route));
        let kinds = kinds.map(|kind| Wanted { kind: kind.name().to_owned(), own: false }).collect();
        let completes = Some(view.head());
        Self { completes, ..Self::of(view, kinds) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Fills one part of the current kind.
    pub(super) fn fill(&mut self, parcel: &mut Parcel, route: Route) {
        let Some(wanted) = self.kinds.front().cloned() else { return };
        let route = match route {
            Route::Down(zone) if wanted.own => Route::Back(zone),
            Route::Down(_) | Route::Up(_) | Route::Back(_) => route,
        };
        let mut part =
            proto::Snapshot { kind: wanted.kind.clone(), own: wanted.own, first: !self.begun, total: None, unknown: false };
        let last = match wanted.kind.parse::<Kind>().ok().filter(|kind| kind_travels(*kind, route)) {
            Some(kind) => {
                let last = self.read(kind, parcel, route);
                part.total = last.then(|| self.total.into());
                last
            }
            None => {
                part.unknown = true;
                true
            }
        };
        parcel.mark(part);
        parcel.reaches = if wanted.own { None } else { self.view.cursor(self.view.head()) };
        self.begun = true;
        if last {
            self.kinds.pop_front();
            (self.position, self.total, self.begun) = (Revision(0), Sum::default(), false);
        }
    }

    /// Gives true when nothing of the kind is left.
    fn read(&mut self, kind: Kind, parcel: &mut Parcel, route: Route) -> bool {
        let (view, mut full) = (self.view.clone(), false);
        view.feed().changes(self.position, &mut |change| {
            if let Change::Put(resource) = change
                && resource.key.kind == kind
                && visible_to(&resource.key, &resource.labels, route, view.enabled())
            {
                full = !parcel.put(resource);
                if !full {
                    self.total.add(contribution_of(&resource.key, resource.hash));
                }
            }
            if !full {
                self.position = change.revision();
            }
            !full
        });
        !full
    }
}
