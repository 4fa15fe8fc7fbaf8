//! The datapath's own node in memory as a target: rows come as the agent's operations, verdicts from the policy stage.
use abi::{
    Addr,
    addr::Prefix,
    config::Config,
    flow::Tuple,
    map,
    pod::{NONE, Pod, PodId, READY},
    policy::{PolicyKey, PolicyValue},
};
use agent::{apply::Op, tables::Table};
use datapath::{
    policy::{Question, check},
    sim::Node,
};
use zerocopy::FromBytes;

use crate::{
    node::{End, Flow},
    order::Target,
};

pub(crate) struct Model(Node);

fn read<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_bytes(bytes).unwrap()
}

impl Model {
    pub(crate) fn new() -> Model {
        Model(Node::default())
    }

    /// The pod at an end, if the end is there: its packets enter by its own device, and it must be ready.
    fn pod(&self, end: &End) -> Option<PodId> {
        let id = self.0.pods.get(&Addr::from_octets(end.address.octets())).copied().unwrap_or(NONE);
        let Some(ifindex) = end.ifindex else { return Some(id) };
        let row = self.0.pod.get(&id)?;
        (row.ifindex == ifindex && row.flags & READY != 0).then_some(id)
    }
}

impl Target for Model {
    fn apply(&mut self, op: &Op) {
        let node = &mut self.0;
        match op {
            Op::Put(Table::Pods, (key, value)) => drop(node.pods.insert(read(key), read(value))),
            Op::Put(Table::Pod, (key, value)) => drop(node.pod.insert(read(key), read::<Pod>(value))),
            Op::Put(Table::Peers, (key, value)) => drop(node.peers.insert(read(key), read(value))),
            Op::Put(Table::Cidrs, (key, value)) => node.cidr(read::<Prefix>(key), read(value)),
            Op::Put(Table::Policy, (key, value)) => node.rule(&read::<PolicyKey>(key), read::<PolicyValue>(value)),
            Op::Put(Table::Config, (_, value)) => node.epoch = read::<Config>(value).epoch,
            Op::Delete(Table::Pods, key) => drop(node.pods.remove(&read(key))),
            Op::Delete(Table::Pod, key) => drop(node.pod.remove(&read(key))),
            Op::Delete(Table::Peers, key) => drop(node.peers.remove(&read(key))),
            Op::Delete(Table::Cidrs, key) => {
                let prefix: Prefix = read(key);
                node.cidrs.remove(prefix.prefix_len, prefix.addr.bytes());
            }
            Op::Delete(Table::Policy, key) => {
                let length = u32::from_ne_bytes(key[..4].try_into().unwrap());
                node.policy.remove(length, key[4..].try_into().unwrap());
            }
            _ => {}
        }
    }

    fn passes(&mut self, flow: &Flow) -> bool {
        let (Some(source), Some(dest)) = (self.pod(&flow.from), self.pod(&flow.to)) else { return false };
        let (src, dst) = (Addr::from_octets(flow.from.address.octets()), Addr::from_octets(flow.to.address.octets()));
        let tuple = Tuple { src, dst, sport: 0, dport: flow.port.to_be() };
        let question = Question { tuple, proto: flow.proto, source, dest };
        check(&self.0, &question, self.0.epoch).is_ok()
    }
}

/// The prefix of keys of `POLICY` counts from their fifth byte on, as in the kernel.
const _: () = assert!(map::POLICY.key == 16);
