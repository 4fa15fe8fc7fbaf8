//! The compiled tables in the kernel against the API's text: random clusters of two nodes, random flows through the
//! hooks of the sender's and of the receiver's node; each verdict is the oracle's, and the rule that the datapath keeps
//! for a flow is one that decided. 200,000 flows a run.
use std::thread;

use abi::DropReason;
use agent::{apply::apply, diff::diff, tables::Tables};
use policy::reference::Decision;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use crate::{
    cluster::{World, packets, world},
    kernel::{Kernel, Seen},
    node::{Flow, decide, flows, want},
    order::{Watched, history, play},
};

/// Flows that both nodes together judge in a run.
const FLOWS: usize = 200_000;
/// Of one cluster, on one node.
const OF_ONE: usize = 600;

/// The same clusters on both nodes, and others in the next run.
fn runner(seed: [u8; 32]) -> TestRunner {
    TestRunner::new_with_rng(ProptestConfig::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

fn fresh_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut seed).unwrap();
    seed
}

#[test]
fn the_kernel_says_what_the_api_says() {
    let seed = fresh_seed();
    let sides = [0, 1].map(|node| thread::spawn(move || side(node, seed)));
    let [one, two] =
        sides.map(|side| side.join().unwrap_or_else(|_| panic!("a node failed; its clusters are {seed:?}")));
    assert_eq!(one + two, FLOWS);
}

fn side(node: usize, seed: [u8; 32]) -> usize {
    let mut kernel = Kernel::load(node);
    let mut have = Tables::default();
    let mut runner = runner(seed);
    let packets: Vec<(u8, u16)> = packets().collect();
    let mut judged = 0;
    while judged < FLOWS / 2 {
        let world: World = world().new_tree(&mut runner).unwrap().current();
        let wanted = want(&world, node, &have);
        kernel.write(&mut have, &wanted.tables);
        let flows = flows([&world, &world], node, &packets);
        let step = (flows.len() / OF_ONE).max(1);
        for flow in flows.iter().filter(|flow| flow.port != 0 || flow.proto == 1).step_by(step) {
            if judged == FLOWS / 2 {
                break;
            }
            check(&mut kernel, &world, node, flow, &wanted);
            judged += 1;
        }
    }
    judged
}

#[track_caller]
fn check(kernel: &mut Kernel, world: &World, node: usize, flow: &Flow, wanted: &agent::compile::Compiled) {
    let input = world.input(node);
    let decisions = decide(&input, node, flow).expect("both ends are there");
    let denies = |decision: &Decision| matches!(decision, Decision::Denied(_));
    let expected = match &decisions {
        _ if flow.proto == 132 => Seen::Dropped(DropReason::UnsupportedProtocol),
        [egress, _] if denies(egress) => Seen::Dropped(DropReason::PolicyDeniedEgress),
        [_, ingress] if denies(ingress) => Seen::Dropped(DropReason::PolicyDeniedIngress),
        _ => Seen::Passed,
    };
    kernel.forget();
    let seen = kernel.run(flow);
    assert_eq!(seen, expected, "{flow:?}: {decisions:?}\n{world:#?}");
    let Some(rules) = kernel.recorded().filter(|_| seen == Seen::Passed) else { return };
    for (id, decision) in rules.iter().zip(&decisions) {
        let told = wanted.names.rules.get(id).map(|rule| (rule.policy.clone(), rule.index));
        let right = match decision {
            Decision::Allowed(all) => told.as_ref().is_some_and(|told| all.contains(told)),
            _ => *id == 0,
        };
        assert!(right, "{flow:?}: {told:?} was told, but {decision:?}\n{world:#?}");
    }
}

impl Kernel {
    fn write(&mut self, have: &mut Tables, want: &Tables) {
        let ops = diff(have, want);
        apply(self.store(), have, &ops).unwrap();
    }
}

/// The same property as in user space, on fewer histories.
#[test]
fn no_prefix_of_a_change_says_what_neither_side_says_in_the_kernel() {
    let mut runner = runner(fresh_seed());
    for node in [0, 1] {
        thread::scope(|scope| {
            let runner = &mut runner;
            scope.spawn(move || {
                let mut watched = Watched { target: Kernel::load(node), have: Tables::default(), node };
                for _ in 0..6 {
                    let history = history().new_tree(runner).unwrap().current();
                    // The last history's cluster goes first.
                    watched.change(&World::default(), &World::default(), usize::MAX).ok();
                    play(&mut watched, &history).unwrap_or_else(|error| panic!("{error}\n{history:#?}"));
                }
            });
        });
    }
}
