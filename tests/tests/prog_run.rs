//! The real programs under BPF_PROG_TEST_RUN.
#[path = "prog_run/kernel_node.rs"]
mod kernel_node;

use kernel_node::KernelNode;

#[test]
fn every_program_loads() {
    let node = KernelNode::start(&abi::config::Settings::default());
    for (name, instructions, bytes) in node.sizes() {
        println!("{name:12} {instructions:>7} verified instructions, {bytes:>6} bytes");
    }
}
