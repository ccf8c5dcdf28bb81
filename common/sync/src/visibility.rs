//! Who may see what: one function, used by senders, by digests and by receivers.

use std::collections::BTreeSet;

use atoll_model::{Kind, Labels, Owner, ResourceKey, ZoneUid, labels::KDS_SYNC};

/// Which way changes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From global to this zone: global's resources, and those of other zones.
    Down(ZoneUid),
    /// From this zone to global: the zone's own.
    Up(ZoneUid),
    /// From global back to this zone, which lost its newest state: the zone's own.
    Back(ZoneUid),
}

/// Whether the receiver at the end of `route` is meant to have this resource. `enabled` are the zones whose services others
/// may see.
pub fn visible_to(key: &ResourceKey, labels: &Labels, route: Route, enabled: &BTreeSet<ZoneUid>) -> bool {
    may_travel(key.kind, key.owner, route) && may_leave(labels) && is_shown(key.owner, route, enabled)
}

/// Whether resources of this kind and owner travel on `route` at all: what a receiver accepts, and what it may be told to
/// remove.
pub fn may_travel(kind: Kind, owner: Owner, route: Route) -> bool {
    let travel = kind.descriptor().travel;
    match (route, owner) {
        (Route::Down(_), Owner::Global) => travel.down,
        (Route::Down(viewer), Owner::Zone(owner)) => travel.across && owner != viewer,
        (Route::Up(zone) | Route::Back(zone), Owner::Zone(owner)) => travel.up && owner == zone,
        (Route::Up(_) | Route::Back(_), Owner::Global) => false,
    }
}

/// Whether any resource of this kind travels on `route`.
pub fn kind_travels(kind: Kind, route: Route) -> bool {
    let travel = kind.descriptor().travel;
    match route {
        Route::Down(_) => travel.down || travel.across,
        Route::Up(_) | Route::Back(_) => travel.up,
    }
}

/// Whether its author lets it leave its plane.
pub(crate) fn may_leave(labels: &Labels) -> bool {
    labels.get(KDS_SYNC).is_none_or(|value| value != "disabled")
}

/// A disabled zone's resources are not shown to other zones.
fn is_shown(owner: Owner, route: Route, enabled: &BTreeSet<ZoneUid>) -> bool {
    match (route, owner) {
        (Route::Down(_), Owner::Zone(owner)) => enabled.contains(&owner),
        (Route::Down(_), Owner::Global) | (Route::Up(_) | Route::Back(_), _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ZoneUid = ZoneUid(uuid::Uuid::from_u128(1));
    const B: ZoneUid = ZoneUid(uuid::Uuid::from_u128(2));

    fn check(kind: Kind, owner: Owner, route: Route, expected: bool) {
        let key = ResourceKey::new(kind, "", "x", owner);
        let enabled = BTreeSet::from([A, B]);
        assert_eq!(visible_to(&key, &Labels::new(), route, &enabled), expected, "{kind} of {owner:?} on {route:?}");
    }

    #[test]
    fn down_come_globals_resources_and_what_other_zones_share() {
        check(Kind::Mesh, Owner::Global, Route::Down(A), true);
        check(Kind::MeshTimeout, Owner::Global, Route::Down(A), true);
        check(Kind::MeshService, Owner::Zone(B), Route::Down(A), true);
        check(Kind::MeshZoneAddress, Owner::Zone(B), Route::Down(A), true);
        check(Kind::MeshTrust, Owner::Zone(B), Route::Down(A), true);
        check(Kind::Dataplane, Owner::Zone(B), Route::Down(A), false);
        check(Kind::MeshTimeout, Owner::Zone(B), Route::Down(A), false);
        check(Kind::VipAllocation, Owner::Zone(B), Route::Down(A), false);
        check(Kind::Dataplane, Owner::Global, Route::Down(A), false);
    }

    #[test]
    fn nothing_returns_to_its_origin_unless_it_was_lost_there() {
        for kind in Kind::ALL {
            check(*kind, Owner::Zone(A), Route::Down(A), false);
        }
        check(Kind::Dataplane, Owner::Zone(A), Route::Back(A), true);
        check(Kind::Dataplane, Owner::Zone(B), Route::Back(A), false);
        check(Kind::Mesh, Owner::Global, Route::Back(A), false);
    }

    #[test]
    fn up_goes_only_what_the_zone_owns() {
        check(Kind::Dataplane, Owner::Zone(A), Route::Up(A), true);
        check(Kind::MeshService, Owner::Zone(A), Route::Up(A), true);
        check(Kind::MeshService, Owner::Zone(B), Route::Up(A), false);
        check(Kind::MeshTimeout, Owner::Global, Route::Up(A), false);
        check(Kind::Mesh, Owner::Zone(A), Route::Up(A), false);
    }

    #[test]
    fn a_disabled_zone_and_a_disabled_resource_stay_out_of_sight() {
        let service = ResourceKey::new(Kind::MeshService, "default", "api", Owner::Zone(B));
        let stay = Labels::from([(KDS_SYNC.to_owned(), "disabled".to_owned())]);
        let both = BTreeSet::from([A, B]);
        assert!(visible_to(&service, &Labels::new(), Route::Down(A), &both));
        assert!(!visible_to(&service, &Labels::new(), Route::Down(A), &BTreeSet::from([A])));
        assert!(visible_to(&service, &Labels::new(), Route::Up(B), &BTreeSet::new()), "global still gets it");
        assert!(!visible_to(&service, &stay, Route::Down(A), &both));
        assert!(!visible_to(&service, &stay, Route::Up(B), &both));
        let go = Labels::from([(KDS_SYNC.to_owned(), "enabled".to_owned())]);
        assert!(visible_to(&service, &go, Route::Up(B), &both));
    }
}
