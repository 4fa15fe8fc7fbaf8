//! Every way of a packet, on the model of a node. The same scenarios run on the real programs in `tests/prog_run`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "scenarios/bench.rs"]
mod bench;
#[path = "scenarios/cases.rs"]
mod cases;
#[path = "scenarios/list.rs"]
#[macro_use]
mod list;
#[path = "scenarios/time.rs"]
mod time;
#[path = "scenarios/world.rs"]
mod world;

use abi::{event::Hook, flow::FlowKey};
use bench::{Bench, Seen};
use datapath::{Verdict, kernel::Tunnel, sim::Node};

/// The model itself.
struct Model(Node);

impl Bench for Model {
    fn start(node: Node) -> Model {
        Model(node)
    }

    fn change(&mut self, change: impl FnOnce(&mut Node)) {
        change(&mut self.0);
    }

    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>) {
        let answer = self.0.run(at, ifindex, bytes, tunnel);
        let seen = match answer.verdict {
            Ok(Verdict::Pass) => Seen::Pass,
            Ok(Verdict::Pod { ifindex, .. }) => Seen::Pod(ifindex),
            Ok(Verdict::Host) => Seen::Host,
            Ok(Verdict::Encap { tunnel, vni }) => Seen::Encap(tunnel, vni),
            Ok(Verdict::Nic { ifindex }) => Seen::Nic(ifindex),
            Ok(Verdict::Native { next }) => Seen::Native(next),
            Ok(Verdict::Reply) => Seen::Reply,
            Err(reason) => Seen::Drop(reason),
        };
        (seen, answer.frame)
    }

    fn evict(&mut self, key: &FlowKey) {
        self.0.half_open.borrow_mut().remove(key).expect("it is there");
    }

    fn wait(&mut self) {
        self.0.now += u64::from(self.0.settings.jiffies_per_second);
    }
}

/// Every scenario in IPv4.
mod four {
    use crate::{Model, cases};
    scenarios!(Model);
}

/// And in IPv6.
mod six {
    use crate::{Model, bench::Six, cases};
    scenarios!(Six<Model>);
    scenarios!(six Six<Model>);
}
