//! The real programs under BPF_PROG_TEST_RUN: the scenarios of `datapath`, packet in, verdict and whole packet out.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../datapath/tests/scenarios/bench.rs"]
mod bench;
#[path = "../../datapath/tests/scenarios/cases.rs"]
mod cases;
#[path = "prog_run/devices.rs"]
mod devices;
#[path = "prog_run/kernel_node.rs"]
mod kernel_node;
#[path = "../../datapath/tests/scenarios/list.rs"]
#[macro_use]
mod list;
#[path = "prog_run/rows.rs"]
mod rows;
#[path = "../../datapath/tests/scenarios/world.rs"]
mod world;
#[path = "prog_run/written.rs"]
mod written;

use kernel_node::KernelNode;
use written::Written;

#[test]
fn every_program_loads() {
    let node = KernelNode::load(world::settings());
    for (name, instructions, bytes) in node.sizes() {
        println!("{name:12} {instructions:>7} verified instructions, {bytes:>6} bytes");
    }
}

/// The logging that is off by default must pass the verifier, too.
#[test]
fn every_program_loads_with_logging() {
    let mut settings = world::settings();
    settings.features |= abi::config::FEATURE_LOG | abi::config::FEATURE_ENCAPSULATE;
    assert_eq!(KernelNode::load(settings).sizes().len(), abi::event::Hook::ALL.len() + abi::map::STAGES.len());
}

/// What goes by the overlay, with outer headers written and read by the programs.
macro_rules! overlay_scenarios {
    ($bench:ty) => {
        scenarios!($bench;
            pod_to_other_node host_to_pods cluster_ip_from_a_pod cluster_ip_from_the_host udp_and_ping unsummed_udp
            node_port_elsewhere forwarded_by_another_node overlay_trust overlay_over_either_family time_to_live
            errors_about_flows fragments_leave_the_node fragments_follow_the_first
        );
    };
}

/// Over an IPv4 underlay.
mod written_four {
    use crate::{Written, cases};
    overlay_scenarios!(Written);
}

/// Over IPv6.
mod written_six {
    use crate::{Written, bench::Six, cases};
    overlay_scenarios!(Six<Written>);
    scenarios!(Six<Written>; extension_headers errors_past_extension_headers);
}

/// So must programs that write two sets of flow tables, as while an upgrade changes these.
#[test]
fn every_program_loads_with_two_sets_of_flow_tables() {
    for second in [abi::config::FEATURE_BOTH_FLOWS, abi::config::FEATURE_FORMER_FLOWS] {
        let mut settings = world::settings();
        settings.features |= second;
        assert_eq!(KernelNode::load(settings).sizes().len(), abi::event::Hook::ALL.len() + abi::map::STAGES.len());
    }
}

/// Every scenario in IPv4.
mod four {
    use crate::{KernelNode, cases};
    scenarios!(KernelNode);
}

/// And in IPv6.
mod six {
    use crate::{KernelNode, bench::Six, cases};
    scenarios!(Six<KernelNode>);
    scenarios!(six Six<KernelNode>);
}
