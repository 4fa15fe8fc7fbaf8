//! `diff` on random tables: it ends at `want`, also on a store that fails, and no prefix of it gives a third verdict.
use abi::{
    Addr,
    addr::Prefix,
    peer::ANY,
    pod::{ISOLATED_INGRESS, Pod, READY},
    policy::{ALLOW, BITS_FULL, DENY, INGRESS, PolicyKey, PolicyValue},
    route::{Node, Route},
    service::{ALIVE, Backend, Service, ServiceKey},
};

use super::diff;
use crate::{
    apply::{Op, apply, memory::MemoryStore, read},
    tables::{Table, Tables},
};

/// A repeatable sequence of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % limit
    }
}

fn addr(host: u32) -> Addr {
    Addr::from_octets([10, 0, (host >> 8) as u8, host as u8])
}

/// Tables as `compile` makes them: sets are named by what they say, classes by what they stand for.
fn random(random: &mut Random, round: u32) -> Tables {
    let mut tables = Tables::default();
    // The number of a class says which policies' addresses it stands for; a set's, which classes it lets in.
    for host in 0..24 {
        if random.below(3) > 0 {
            tables.peers.insert(addr(host), 1 + random.below(5));
        }
    }
    for octet in 0..3 {
        if random.below(2) > 0 {
            let len = 96 + 24 + 2 * octet;
            tables.cidrs.insert(Prefix { prefix_len: len, addr: addr(0) }, 10 + random.below(2));
        }
    }
    for id in 1..6 {
        // A set is used in one round only: rounds are the rules' versions here, and a set is immutable.
        let set = 1_000 * (1 + round % 2) + random.below(64);
        let row = Pod {
            addr4: addr(200 + id),
            ifindex: id,
            generation: random.below(4),
            policy_set: [set; 2],
            isolated: [u8::from(random.below(4) > 0) * ISOLATED_INGRESS; 2],
            flags: READY,
            ..Pod::default()
        };
        tables.pod.insert(id, row);
        if random.below(4) > 0 {
            tables.pods.insert(addr(200 + id), id);
        }
        for class in [ANY, 1, 2, 3, 4, 5, 10, 11] {
            if (set >> (class % 6)) & 1 == 1 {
                tables.policy.insert(rule(set, class), value(if set % 7 == class { DENY } else { ALLOW }));
            }
        }
    }
    services(random, &mut tables);
    tables
}

fn services(random: &mut Random, tables: &mut Tables) {
    for id in 1..8 {
        let flags = random.below(2) as u8 * ALIVE;
        let port = if flags == 0 { 0 } else { 80 };
        tables.backends.insert(id, Backend { port, flags, generation: random.below(3), ..Backend::default() });
        tables.slots.insert(id, 1 + random.below(7));
        let key = ServiceKey { addr: addr(300 + random.below(9)), port: 80, proto: 6, scope: 0 };
        tables.services.insert(key, Service { service: id, first_slot: id, count: 1, ..Service::default() });
        let tunnel = if random.below(2) == 0 { Addr::ANY } else { addr(400 + id) };
        tables.nodes.insert(id, Node { tunnel, generation: random.below(3), ..Node::default() });
        let prefix = Prefix { prefix_len: 120, addr: addr(256 * random.below(12)) };
        tables.routes.insert(prefix, Route { node: id, flags: 0 });
    }
}

fn rule(set: u32, class: u32) -> PolicyKey {
    PolicyKey { prefix_len: BITS_FULL, set, class, direction: INGRESS, proto: 6, port: 80 }
}

fn value(verdict: u8) -> PolicyValue {
    let precedence = if verdict == DENY { 1 } else { 2 };
    PolicyValue { verdict, pad: 0, proxy_port: 0, precedence, rule: 1, reserved: 0 }
}

/// As the datapath judges: the row of the class and the row of any peer, the better precedence wins.
fn allowed(tables: &Tables, pod: u32, peer: Addr) -> Option<bool> {
    let row = tables.pod.get(&pod)?;
    let active = (tables.epoch() & 1) as usize;
    if row.isolated[active] & ISOLATED_INGRESS == 0 {
        return Some(true);
    }
    let find = |class: u32| tables.policy.get(&rule(row.policy_set[active], class)).copied();
    let of_class = tables.class_of(peer).and_then(find);
    let best = of_class.into_iter().chain(find(ANY)).min_by_key(|value| (value.precedence, value.verdict != DENY));
    Some(best.is_some_and(|value| value.verdict == ALLOW))
}

fn same_rows(a: &Tables, b: &Tables) -> bool {
    Table::ALL.iter().filter(|table| **table != Table::Config).all(|table| a.rows(*table) == b.rows(*table))
}

#[track_caller]
fn settled(mut want: Tables) -> Tables {
    let mut store = MemoryStore::default();
    let mut have = Tables::default();
    let ops = diff(&have, &want);
    apply(&mut store, &mut have, &ops).expect("this store never fails");
    want.config = have.config.clone();
    assert_eq!(have, want);
    have
}

#[test]
fn every_prefix_gives_the_old_verdict_or_the_new_one_and_never_goes_back() {
    for seed in 0..200 {
        let mut numbers = Random(seed);
        let old = settled(random(&mut numbers, 0));
        let new = random(&mut numbers, 1);
        let end = {
            let mut store = MemoryStore::new(old.clone(), 0, seed);
            let mut have = old.clone();
            apply(&mut store, &mut have, &diff(&old, &new)).expect("this store never fails");
            have
        };
        let cases: Vec<(u32, Addr)> = (1..6).flat_map(|pod| (0..70).map(move |host| (pod, addr(host)))).collect();
        let mut turned = vec![false; cases.len()];
        let mut now = old.clone();
        for op in diff(&old, &new) {
            let mut store = MemoryStore::new(now.clone(), 0, 0);
            apply(&mut store, &mut now, std::slice::from_ref(&op)).expect("this store never fails");
            for (index, (pod, peer)) in cases.iter().enumerate() {
                let (before, verdict) = (allowed(&old, *pod, *peer), allowed(&now, *pod, *peer));
                let after = allowed(&end, *pod, *peer);
                assert!(
                    verdict == before || verdict == after,
                    "seed {seed}: a third verdict for {pod} {peer} at {op:?}"
                );
                if before != after {
                    assert!(!turned[index] || verdict == after, "seed {seed}: back again for {pod} {peer} at {op:?}");
                    turned[index] |= verdict == after;
                }
            }
        }
    }
}

#[test]
fn it_ends_at_want_on_a_store_that_fails() {
    for seed in 0..200 {
        let mut numbers = Random(seed);
        let mut store = MemoryStore::new(Tables::default(), 10, seed);
        let mut have = Tables::default();
        for round in 0..4 {
            let want = random(&mut numbers, round);
            let tries = (0..500).find(|_| {
                let ops = diff(&have, &want);
                apply(&mut store, &mut have, &ops).is_ok()
            });
            assert!(tries.is_some(), "seed {seed} never ends");
            assert!(same_rows(&have, &want), "seed {seed}: not what was wanted");
            assert_eq!(read(&store).expect("memory"), have, "seed {seed}: the mirror is not the store");
            assert_eq!(diff(&have, &want), [], "seed {seed}: a second time there is nothing to do");
        }
    }
}

#[test]
fn a_change_of_rules_is_one_store_of_the_epoch() {
    let mut numbers = Random(7);
    let old = settled(random(&mut numbers, 0));
    let mut new = old.clone();
    for row in new.pod.values_mut() {
        row.policy_set = [5_000; 2];
    }
    new.policy.insert(rule(5_000, ANY), value(ALLOW));
    let flips = diff(&old, &new).iter().filter(|op| matches!(op, Op::Put(Table::Config, _))).count();
    assert_eq!(flips, 1);
}

#[test]
fn a_backend_is_there_before_its_slot_and_gone_after_it() {
    let key = ServiceKey { addr: addr(1), port: 80, proto: 6, scope: 0 };
    let mut want = Tables::default();
    want.backends.insert(1, Backend { port: 80, flags: ALIVE, generation: 1, ..Backend::default() });
    want.slots.insert(0, 1);
    want.services.insert(key, Service { count: 1, ..Service::default() });
    let order = |ops: Vec<Op>| -> Vec<Table> {
        let tables = ops.iter().filter_map(|op| match op {
            Op::Put(table, _) | Op::Delete(table, _) if *table != Table::Config => Some(*table),
            _ => None,
        });
        tables.collect()
    };
    assert_eq!(order(diff(&Tables::default(), &want)), [Table::Backends, Table::Slots, Table::Services]);
    let have = settled(want);
    assert_eq!(order(diff(&have, &Tables::default())), [Table::Services, Table::Slots, Table::Backends]);
}
