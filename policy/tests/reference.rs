//! The compiled tables against the oracle: random policies, pods and packets, one answer, whether `policy::Judge` asks
//! the tables or the datapath's own stage does, and the rule that is told is one that decided. At least 200,000 judged
//! packets a run.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

#[path = "reference/maps.rs"]
mod maps;
#[path = "reference/world.rs"]
mod world;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use abi::policy::{EGRESS, INGRESS, RuleId};
use maps::Maps;
use objects::Key;
use policy::{
    Judge, LocalPod, Output, Query, Verdict, compile,
    reference::{self, Decision},
};
use proptest::{prelude::*, test_runner::TestRunner};
use world::{OTHERS, World, packets, world};

/// Every local pod of both nodes with everybody, both ways. Returns how many packets a policy judged.
fn agree(world: &World) -> usize {
    let pods = (3..13).flat_map(|n| {
        let of = move |node| [format!("10.244.{node}.{n}"), format!("fd00::{node}:{n}")];
        [of(1), of(2)].concat()
    });
    let peers: Vec<IpAddr> =
        pods.chain(OTHERS.iter().map(ToString::to_string)).map(|text| text.parse().unwrap()).collect();
    (0..2).map(|node| agree_on(world, node, &peers)).sum()
}

fn agree_on(world: &World, node: usize, peers: &[IpAddr]) -> usize {
    let input = world.input(node);
    let tables = compile(&input);
    let judge = Judge::new(&tables);
    let mut count = 0;
    for LocalPod { key, .. } in input.local {
        let compiled = tables.pods[key];
        let maps = Maps::new(&tables, compiled);
        for &peer in peers {
            for (proto, port) in packets() {
                for ingress in [true, false] {
                    let direction = if ingress { INGRESS } else { EGRESS };
                    let query = Query { pod: compiled, direction, peer: peer.into(), proto, port };
                    let packet = reference::Packet { ingress, peer, proto, port };
                    let decision = reference::decide(&input, &input.pods[key], &packet);
                    let verdict = judge.judge(&query);
                    let told = told(&tables, &query, verdict);
                    assert!(
                        is_one_of(&told, &decision),
                        "{key} {packet:?}: {decision:?}, not {told:?}\n{world:#?}\n{tables}"
                    );
                    let stage = maps.judge(&query);
                    assert_eq!(stage, said_by(verdict, &query), "{key} {packet:?}\n{world:#?}\n{tables}");
                    count += usize::from(verdict != Verdict::NotIsolated);
                }
            }
        }
    }
    count
}

/// The verdict in the oracle's words.
fn told(tables: &Output, query: &Query, verdict: Verdict) -> Decision {
    let rule = |id: RuleId| -> Vec<(Key, usize)> {
        tables.rules.get(&id).map(|rule| (rule.policy.clone(), rule.index)).into_iter().collect()
    };
    match verdict {
        Verdict::NotIsolated => Decision::NotIsolated,
        Verdict::Allowed(id) => Decision::Allowed(rule(id)),
        Verdict::Denied(id) => panic!("no NetworkPolicy denies by a rule: {:?}", rule(id)),
        Verdict::DefaultDeny => {
            let set = &tables.sets[&query.pod.set];
            Decision::Denied(if query.direction == INGRESS { set.ingress.clone() } else { set.egress.clone() })
        }
    }
}

/// One rule is told where several may allow; of a denial all policies are.
fn is_one_of(told: &Decision, decision: &Decision) -> bool {
    match (told, decision) {
        (Decision::Allowed(told), Decision::Allowed(all)) => told.len() == 1 && all.contains(&told[0]),
        (told, decision) => told == decision,
    }
}

/// What the datapath's stage answers when the tables say this: the rule, or who denied.
fn said_by(verdict: Verdict, query: &Query) -> Result<RuleId, RuleId> {
    match verdict {
        Verdict::NotIsolated => Ok(0),
        Verdict::Allowed(rule) => Ok(rule),
        Verdict::Denied(rule) => Err(rule),
        Verdict::DefaultDeny => Err(query.pod.set),
    }
}

#[test]
fn the_tables_say_what_the_api_says() {
    let count = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&world(), |world| {
        count.fetch_add(agree(&world), Ordering::Relaxed);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
    assert!(count.into_inner() >= 200_000);
}
