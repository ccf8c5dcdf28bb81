//! Virtual addresses.

use std::net::IpAddr;

use atoll_model::{Kind, ResourceKey};
use chrono::TimeDelta;
use serde_json::json;

use crate::world::{World, new_index, zone};

fn vip(world: &mut World, service: &ResourceKey) -> IpAddr {
    world.service_view(service).vip.unwrap()
}

fn only_row(world: &World) -> ResourceKey {
    let rows = world.keys(Kind::VipAllocation);
    assert_eq!(rows.len(), 1);
    rows.into_iter().next().unwrap()
}

/// Rewrites the address of a stored row.
fn move_row(world: &mut World, row: &ResourceKey, ip: &str) {
    let mut spec: serde_json::Value = serde_json::from_slice(&world.resources[row].spec).unwrap();
    spec["ip"] = json!(ip);
    world.put(row.kind, &row.mesh, &row.name, row.owner, &[], spec);
}

#[test]
fn a_service_has_its_address_at_once_and_the_row_follows() {
    let mut world = World::new();
    let service = world.service("api", zone("b"), 80);
    let first = vip(&mut world, &service);
    assert!(first.to_string().starts_with("241."), "{first}");
    assert_eq!(world.settle(), 1);
    assert_eq!(vip(&mut world, &service), first);
}

#[test]
fn a_lost_store_gives_the_same_address() {
    let mut world = World::new();
    let service = world.service("api", zone("b"), 80);
    let first = vip(&mut world, &service);
    let mut again = World::new();
    again.service("other", zone("b"), 80);
    again.service("api", zone("b"), 80);
    assert_eq!(vip(&mut again, &service), first);
}

#[test]
fn a_stored_row_stands_above_the_hash() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.settle();
    let row = only_row(&world);
    move_row(&mut world, &row, "241.0.0.77");
    assert_eq!(vip(&mut world, &service).to_string(), "241.0.0.77");
    let mut restarted = new_index("a");
    let changes: Vec<_> = world.resources.values().map(|resource| atoll_model::Change::Put(resource.clone())).collect();
    restarted.apply(&changes);
    assert_eq!(restarted.snapshots()["default"].services[&service].vip, Some("241.0.0.77".parse().unwrap()));
}

#[test]
fn two_rows_with_one_address_leave_it_to_the_older() {
    let mut world = World::new();
    let one = world.service("one", zone("a"), 80);
    world.settle();
    let first = vip(&mut world, &one);
    world.now += TimeDelta::seconds(1);
    let two = world.service("two", zone("a"), 80);
    world.settle();
    let rows = world.keys(Kind::VipAllocation);
    let row_of_two = rows.iter().find(|row| row.name.contains("two")).unwrap().clone();
    move_row(&mut world, &row_of_two, &first.to_string());
    assert_eq!(vip(&mut world, &one), first);
    assert_ne!(vip(&mut world, &two), first);
    world.settle();
    assert_ne!(vip(&mut world, &two), first);
}

#[test]
fn rows_outside_the_network_or_without_a_service_are_put_right() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.settle();
    let row = only_row(&world);
    move_row(&mut world, &row, "10.1.2.3");
    assert!(vip(&mut world, &service).to_string().starts_with("241."));
    world.put(Kind::VipAllocation, "default", "odd", zone("a"), &[], json!({"x": 1}));
    world.settle();
    assert_eq!(world.keys(Kind::VipAllocation), [row].into());
}

#[test]
fn the_address_of_a_service_that_is_gone_is_kept_for_an_hour() {
    let mut world = World::new();
    let service = world.service("api", zone("b"), 80);
    let first = vip(&mut world, &service);
    world.settle();
    world.delete(&service);
    world.settle();
    let row = only_row(&world);
    assert!(world.resources[&row].labels.contains_key("kuma.io/deletion-grace-period-started-at"));
    assert_eq!(world.index.wake_at(), Some(world.now + TimeDelta::hours(1)));
    world.service("api", zone("b"), 80);
    assert_eq!(vip(&mut world, &service), first);
    world.settle();
    assert!(world.resources[&row].labels.is_empty());
    world.delete(&service);
    world.settle();
    world.now += TimeDelta::hours(1);
    world.settle();
    assert!(world.keys(Kind::VipAllocation).is_empty());
    assert_eq!(world.index.wake_at(), None);
}
