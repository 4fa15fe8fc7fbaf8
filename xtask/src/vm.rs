//! `cargo xtask vm`: the tests that need a kernel, on the kernel of a Debian 12 user, with cgroup v2 alone.
//!
//! Debian's cloud kernel boots in an emulated machine from a root file system in memory (`vm/root.rs`): our static test
//! programs, the programs that they run, and `vm/init.sh`, which runs step after step. Nothing is installed but QEMU, and
//! the guest has no network. By software emulation everything takes some twenty times longer than here: what runs is
//! chosen, and nothing in it measures time.

mod guest;
mod kernel;
mod root;

use anyhow::{Context as _, bail};
use cargo_metadata::Message;

use crate::{
    clock::Clock,
    gate::{Count, SKIP},
    places::Places,
    setup, shell,
};

/// A test program of ours and how the guest calls it.
struct TestProgram {
    package: &'static str,
    test: &'static str,
    arguments: &'static str,
}

/// Programs under BPF_PROG_TEST_RUN, real sockets by clsact (this kernel has no tcx), the agent's own rooms, the container
/// helper with its device filter, and the node's runtime. Of the long ones a part: the machine is emulated, and what differs
/// between kernels is what loads, what the helpers do and how programs are attached.
const TESTS: [TestProgram; 5] = [
    TestProgram {
        package: "tests",
        test: "prog_run",
        arguments: "--show-output every_program written_four native too_big fragments cluster_ip node_port",
    },
    TestProgram {
        package: "tests",
        test: "netns",
        arguments: "--show-output every_way_with_clsact every_way_natively_in_ipv6 every_way_with_headers_by_the_program_in_ipv6",
    },
    TestProgram { package: "container-helper", test: "container", arguments: "" },
    TestProgram { package: "node", test: "runtime", arguments: "" },
    TestProgram {
        package: "agent",
        test: "node",
        arguments: "--skip tcx --skip other_way --skip flows --skip to_other_nodes --skip another_nic",
    },
];

/// Builds what is missing, boots, and returns what the guest's tests counted.
pub(crate) fn run(places: &Places, clock: &mut Clock) -> anyhow::Result<Count> {
    setup::vm(clock)?;
    let kernel = kernel::find(places, clock)?;
    let programs = build(places, clock)?;
    let initrd = clock.step("packing the guest's root", |_| root::pack(places, &kernel, &programs))?;
    let name = format!("tests on Debian's {} (emulated, cgroup v2 alone)", kernel.release);
    let count = clock.step(&name, |progress| {
        progress.hand_over();
        guest::boot(places, &kernel, &initrd)
    })?;
    println!("\non {}: {} passed, {} failed, {} skipped", kernel.release, count.passed, count.failed, count.skipped);
    Ok(count)
}

/// `cargo xtask vm`: a failure or a skip is an error.
pub(crate) fn check(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    let count = run(places, clock)?;
    if count.failed > 0 || count.skipped > 0 {
        bail!(
            "{} failed and {} were skipped in the guest; see the lines above ({SKIP} says why)",
            count.failed,
            count.skipped
        );
    }
    Ok(())
}

/// The test programs' paths, in the order of `TESTS`.
fn build(places: &Places, clock: &mut Clock) -> anyhow::Result<Vec<(String, std::path::PathBuf)>> {
    let output = clock.step("building the guest's tests", |_| {
        let mut cargo =
            shell::workspace(&places.root, "test", &["--no-run", "--message-format=json-render-diagnostics"]);
        for test in &TESTS {
            cargo.args(["--test", test.test]);
        }
        let output = cargo.output().context("starting cargo test")?;
        anyhow::ensure!(
            output.status.success(),
            "cargo test --no-run: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    })?;
    let mut programs = Vec::new();
    let messages: Vec<Message> =
        Message::parse_stream(output.as_slice()).collect::<Result<_, _>>().context("cargo's messages")?;
    for test in &TESTS {
        let found = messages.iter().find_map(|message| match message {
            Message::CompilerArtifact(artifact) if artifact.target.name == test.test && artifact.profile.test => {
                artifact.executable.clone()
            }
            _ => None,
        });
        let path = found.with_context(|| format!("cargo built no test {} of {}", test.test, test.package))?;
        programs.push((test.test.to_owned(), path.into_std_path_buf()));
    }
    Ok(programs)
}
