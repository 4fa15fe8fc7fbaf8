//! The faults: what is struck, for how long, and when it is whole again.
use std::{
    thread,
    time::{Duration, Instant},
};

use local_cluster::{Status, netns::Netns};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    NODES,
    bed::{Bed, in_netns, until},
    dice::Dice,
    flood,
    traffic::Outage,
};

/// How long an agent stands still, and a link is down, at most.
const STILL: u64 = 2500;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// kill -9 of an agent.
    Agent,
    /// kill -9 of the node side.
    Kubelet,
    /// kill -9 of the API server.
    Server,
    /// kill -9 of the supervisor.
    Supervisor,
    /// An agent stands still.
    AgentStill,
    /// The API server stands still.
    ServerStill,
    /// A node's link is set down in the node.
    LinkDown,
    /// The other end of a node's link goes.
    CarrierLost,
    /// A flow table is full.
    TableFull,
    /// A node's power is cut: all of its pods, and on the first node the API server too.
    PowerCut,
}

/// As often as each comes in one round.
pub(crate) const ROUND: [Fault; 16] = [
    Fault::Agent,
    Fault::Agent,
    Fault::Agent,
    Fault::AgentStill,
    Fault::AgentStill,
    Fault::Kubelet,
    Fault::Kubelet,
    Fault::Kubelet,
    Fault::Server,
    Fault::Server,
    Fault::ServerStill,
    Fault::Supervisor,
    Fault::LinkDown,
    Fault::LinkDown,
    Fault::CarrierLost,
    Fault::TableFull,
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Agent => "kill -9 of an agent",
            Fault::Kubelet => "kill -9 of a node side",
            Fault::Server => "kill -9 of the API server",
            Fault::Supervisor => "kill -9 of the supervisor",
            Fault::AgentStill => "an agent stands still",
            Fault::ServerStill => "the API server stands still",
            Fault::LinkDown => "a node's link is down",
            Fault::CarrierLost => "a node's link has no carrier",
            Fault::TableFull => "a table of flows is full",
            Fault::PowerCut => "a node's power is cut",
        }
    }

    /// Whether the API answers while the fault lasts.
    pub(crate) fn leaves_api(self) -> bool {
        !matches!(self, Fault::ServerStill | Fault::PowerCut)
    }

    /// Whether the tables follow the API while the fault lasts.
    pub(crate) fn leaves_tables(self) -> bool {
        !matches!(self, Fault::AgentStill | Fault::ServerStill)
    }
}

/// What a strike was.
pub(crate) struct Struck {
    pub(crate) node: &'static str,
    pub(crate) outage: Option<Outage>,
    /// Rows of `FLOWS` at their most.
    pub(crate) rows: u64,
}

/// Strikes, calls `meanwhile` while the fault lasts, and returns when what was struck serves again.
pub(crate) fn strike(bed: &Bed, dice: &mut Dice, fault: Fault, away: Duration, meanwhile: &mut dyn FnMut()) -> Struck {
    let node = *dice.pick(&NODES);
    let time = Duration::from_millis(500 + dice.below(STILL as usize - 500) as u64);
    let mut struck = Struck { node, outage: None, rows: 0 };
    match fault {
        Fault::Agent => killed(&|| bed.part(node, "agent"), meanwhile),
        Fault::Kubelet => killed(&|| bed.part(node, "node"), meanwhile),
        Fault::Server => killed(&|| bed.state().server, meanwhile),
        Fault::Supervisor => supervisor(bed, meanwhile),
        Fault::AgentStill => still(bed.part(node, "agent"), time, meanwhile),
        Fault::ServerStill => {
            // The whole time now and then, else seconds: the sequence would be of nothing else.
            let whole = dice.below(4) == 0;
            still(bed.state().server, if whole { away } else { time.min(away) }, meanwhile);
        }
        Fault::LinkDown => struck.outage = Some(link(&bed.netns(node), "eth0", time, meanwhile)),
        Fault::CarrierLost => struck.outage = Some(link(&bed.fabric(), node, time, meanwhile)),
        Fault::TableFull => struck.rows = flood::fill(bed, meanwhile),
        Fault::PowerCut => bed.cut(node, time),
    }
    struck
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn killed(who: &dyn Fn() -> Option<i32>, meanwhile: &mut dyn FnMut()) {
    let old = until("the process to run", || who().ok_or_else(|| "it does not".to_owned()));
    signal(old, Signal::SIGKILL);
    meanwhile();
    until("another process in its place", || match who() {
        Some(pid) if pid != old => Ok(()),
        other => Err(format!("{other:?}, was {old}")),
    });
}

fn supervisor(bed: &Bed, meanwhile: &mut dyn FnMut()) {
    let orphaned = || match local_cluster::Cluster::status(bed.name()) {
        Ok(Status::Orphaned(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    signal(bed.state().supervisor, Signal::SIGKILL);
    until("the cluster to be without a supervisor", orphaned);
    meanwhile();
    bed.adopt();
}

fn still(pid: Option<i32>, time: Duration, meanwhile: &mut dyn FnMut()) {
    let pid = pid.expect("it runs");
    let begun = Instant::now();
    signal(pid, Signal::SIGSTOP);
    meanwhile();
    thread::sleep(time.saturating_sub(begun.elapsed()));
    signal(pid, Signal::SIGCONT);
}

fn link(netns: &Netns, device: &str, time: Duration, meanwhile: &mut dyn FnMut()) -> Outage {
    let from = Instant::now();
    in_netns(netns, &format!("ip link set {device} down"));
    meanwhile();
    thread::sleep(time.saturating_sub(from.elapsed()));
    in_netns(netns, &format!("ip link set {device} up"));
    Outage { from, up: Instant::now() }
}
