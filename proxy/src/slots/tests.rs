//! Slots over several rounds: what must stay, what must change, what must never be rewritten.
use abi::{Addr, service::SCOPE_CLUSTER};
use proptest::prelude::*;

use super::*;
use crate::Entry;

fn backend(n: u8) -> BackendAddr {
    BackendAddr { addr: Addr::from_octets([10, 0, 0, n]), port: 80, proto: 6 }
}

fn key(n: u8) -> ServiceKey {
    ServiceKey { addr: Addr::from_octets([10, 96, 0, n]), port: 80_u16.to_be(), proto: 6, scope: SCOPE_CLUSTER }
}

fn want(services: &[&[u8]]) -> Output {
    let mut output = Output::default();
    for (index, backends) in services.iter().enumerate() {
        let backends: Vec<_> = backends.iter().map(|n| backend(*n)).collect();
        output.backends.extend(backends.iter().map(|b| (*b, None)));
        output.services.insert(key(index as u8), Entry { service: index as u32 + 1, backends, ..Entry::default() });
    }
    output
}

fn next(have: &Slots, services: &[&[u8]]) -> Slots {
    let (next, overflow) = assign(have, &want(services), Capacity { backends: 100, slots: 100 }, |_, _| (0, 7));
    assert_eq!(overflow, Overflow::default());
    next
}

/// The backends that a service's row leads to.
fn reached(slots: &Slots, service: u8) -> Vec<Addr> {
    let row = slots.services[&key(service)];
    (row.first_slot..row.first_slot + row.count).map(|slot| slots.backends[&slots.slots[&slot]].addr).collect()
}

#[test]
fn a_round_without_change_changes_nothing() {
    let first = next(&Slots::default(), &[&[1, 2], &[3], &[]]);
    assert_eq!(next(&first, &[&[1, 2], &[3], &[]]), first);
    let read_back = Slots::from_maps(
        first.backends.clone().into_iter().chain([(0, Backend::default()), (90, Backend::default())]),
        |slot| first.slots.get(&slot).copied().or(Some(0)),
        first.services.clone(),
    );
    assert_eq!(read_back, first);
}

#[test]
fn rows_with_the_same_backends_share_a_range() {
    let slots = next(&Slots::default(), &[&[1, 2], &[1, 2]]);
    assert_eq!(slots.slots.len(), 2);
}

#[test]
fn a_kept_backend_keeps_its_index_and_a_freed_one_gets_a_new_generation() {
    let first = next(&Slots::default(), &[&[1, 2, 3]]);
    let second = next(&first, &[&[1, 3, 4]]);
    assert_eq!(second.backends[&1], first.backends[&1]);
    assert_eq!(second.backends[&3], first.backends[&3]);
    assert_eq!(second.backends[&2], Backend { generation: 2, ..Backend::default() });
    assert_eq!(second.backends[&4].addr, backend(4).addr, "not the row that was freed in the same round");
    let third = next(&second, &[&[1, 3, 4, 5]]);
    assert_eq!((third.backends[&2].addr, third.backends[&2].generation), (backend(5).addr, 2));
}

#[test]
fn an_old_range_is_not_written_before_the_next_round() {
    let first = next(&Slots::default(), &[&[1, 2]]);
    let second = next(&first, &[&[2, 3]]);
    assert!(second.slots.keys().all(|slot| !first.slots.contains_key(slot)));
    let third = next(&second, &[&[3, 4]]);
    assert_eq!(third.services[&key(0)].first_slot, first.services[&key(0)].first_slot);
}

#[test]
fn a_living_backend_without_a_service_stays() {
    let first = next(&Slots::default(), &[&[1, 2]]);
    let mut going = want(&[&[1]]);
    going.backends.insert(backend(2), None);
    let (second, _) = assign(&first, &going, Capacity::default(), |_, _| (0, 7));
    assert_eq!(second.backends, first.backends);
}

#[test]
fn what_does_not_fit_is_told_and_old_rows_stay() {
    let capacity = Capacity { backends: 3, slots: 3 };
    let (first, overflow) = assign(&Slots::default(), &want(&[&[1, 2], &[2, 3]]), capacity, |_, _| (0, 0));
    assert_eq!(overflow, Overflow { backends: 1, ranges: 0 });
    assert_eq!(reached(&first, 1), [backend(2).addr]);
    let (second, overflow) = assign(&first, &want(&[&[1], &[2]]), capacity, |_, _| (0, 0));
    assert_eq!(overflow.ranges, 1);
    assert_eq!(reached(&second, 0), [backend(1).addr, backend(2).addr]);
}

proptest! {
    #[test]
    fn rounds(rounds in prop::collection::vec(prop::collection::vec(prop::collection::btree_set(1_u8..12, 0..5), 1..5), 1..8)) {
        let mut have = Slots::default();
        for round in rounds {
            let lists: Vec<Vec<u8>> = round.iter().map(|set| set.iter().copied().collect()).collect();
            let slices: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
            let slots = next(&have, &slices);
            for (index, list) in lists.iter().enumerate() {
                let expected: Vec<Addr> = list.iter().map(|n| backend(*n).addr).collect();
                prop_assert_eq!(reached(&slots, index as u8), expected);
            }
            for (slot, id) in &slots.slots {
                prop_assert!(have.slots.get(slot).is_none_or(|old| old == id), "slot {} was rewritten", slot);
            }
            for (id, old) in &have.backends {
                let new = &slots.backends[id];
                prop_assert!(new.generation >= old.generation);
                prop_assert!(new.generation > old.generation || old.flags == 0 || new == old);
            }
            have = slots;
        }
    }
}
