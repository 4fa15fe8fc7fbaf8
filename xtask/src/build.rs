//! Building: the BPF object for its own target first, because `agent` embeds it; then the static programs.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

use crate::{
    clock::Clock,
    places::Places,
    setup::{self, Toolchain},
    shell,
};

/// The static programs, as cargo is asked for them.
const PROGRAMS: [&str; 8] = ["--bin", "weft", "--bin", "weft-cni", "--bin", "guestbook", "--bin", "probe"];

/// The feature of `ebpf`, and the one of `agent` that has `abi`'s with it.
const FORMER: &str = "former-flow-layout";
const FORMER_AGENT: &str = "agent/former-flow-layout";
/// Under the target directory.
const BUILT_OBJECT: &str = "bpf/bpfel-unknown-none/release/weft-bpf";

pub(crate) fn run(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    bpf(places, clock)?;
    clock.step("building the programs", |progress| {
        shell::run(progress, shell::workspace(&places.root, "build", &PROGRAMS)).map(|_| ())
    })
}

/// Builds the BPF object and puts it where `agent/build.rs` looks; untouched if its content is the same.
pub(crate) fn bpf(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    let toolchain = setup::toolchain().context("no toolchain for the BPF target: run cargo xtask setup")?;
    let linker = places.bpf_linker();
    anyhow::ensure!(linker.exists(), "{} is missing: run cargo xtask setup", linker.display());
    clock.step("building the BPF object", |progress| shell::run(progress, bpf_command(places, toolchain, &linker)))?;
    keep(&places.target.join(BUILT_OBJECT), &places.bpf_object())
}

/// Builds an agent whose flow tables have the former layout, `weft-former`: tests upgrade from it and go back to it.
pub(crate) fn former(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    let toolchain = setup::toolchain().context("no toolchain for the BPF target: run cargo xtask setup")?;
    clock.step("building an agent with the former layout of flows", |progress| {
        let mut bpf = bpf_command(places, toolchain, &places.bpf_linker());
        bpf.args(["--bin", "weft-bpf", "--features", FORMER]);
        shell::run(progress, bpf)?;
        let object = places.former_bpf_object();
        keep(&places.target.join(BUILT_OBJECT), &object)?;
        let mut cargo = shell::workspace(&places.root, "build", &["--example", "former", "--features", FORMER_AGENT]);
        cargo.env("WEFT_BPF_OBJECT", object);
        shell::run(progress, cargo)?;
        let programs = places.programs();
        keep(&programs.join("examples/former"), &programs.join("weft-former"))
    })
}

/// Copies what was built to where it is looked for; untouched if its content is the same.
fn keep(built: &Path, kept: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(kept).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let permissions = fs::metadata(built).with_context(|| format!("reading {}", built.display()))?.permissions();
    fs::write(kept, bytes).with_context(|| format!("writing {}", kept.display()))?;
    fs::set_permissions(kept, permissions).with_context(|| format!("making {} executable", kept.display()))
}

fn bpf_command(places: &Places, toolchain: Toolchain, linker: &Path) -> Command {
    let mut command = match toolchain {
        Toolchain::Debian => {
            let mut cargo = Command::new("/usr/bin/cargo");
            // Its own rustc also where rustup's comes first in the PATH; the bootstrap switch allows unstable features.
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTDOC").env_remove("RUSTC_WRAPPER");
            cargo.arg("build");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            cargo
        }
    };
    let linker = format!("-Clinker={}", linker.display());
    let arch = format!("--cfg\u{1f}bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    // The linker would have LLVM leave every fill and move of memory, however short, to functions that go byte by byte.
    let inline = "-Clink-arg=--disable-expand-memcpy-in-order";
    let flags = [&linker, "-Clink-arg=--btf", inline, "-Cdebuginfo=2", "-Cpanic=abort", &arch].join("\u{1f}");
    command.args(["--release", "--package", "ebpf", "--target", "bpfel-unknown-none", "--target-dir"]);
    command.arg(places.target.join("bpf"));
    command.env("CARGO_ENCODED_RUSTFLAGS", flags).env_remove("RUSTFLAGS");
    // The workspace's profile is for programs: here the linker wants one whole, optimised module with its types.
    let profile =
        [("DEBUG", "2"), ("INCREMENTAL", "false"), ("PANIC", "abort"), ("CODEGEN_UNITS", "1"), ("OPT_LEVEL", "3")];
    for (name, value) in profile {
        command.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
    shell::clean(command, &places.root)
}
