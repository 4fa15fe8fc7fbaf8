//! What building needs: a C compiler, a toolchain for the BPF target, and bpf-linker.
//!
//! Installs only what is missing and says what. rustup is asked what it has and never told to fetch: two ways lead to
//! the BPF target, and the first that fits is taken (see `Toolchain`).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{clock::Clock, debian, places::Places, shell};

/// Oldest kernel on which the datapath loads.
const KERNEL_FLOOR: (u32, u32) = (6, 1);
const LLVM: &str = "22";
/// For every build: a linker and the static C library; ring compiles C.
const PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];
/// rustc with a prebuilt core for bpfel-unknown-none, which rustup does not have.
const BPF_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// For `vm`: the emulated machine, and what its root is made with.
const VM_PACKAGES: [&str; 3] = ["qemu-system-x86", "iproute2", "binutils"];
/// For `fuzz`: libFuzzer is C++.
const FUZZ_PACKAGES: [&str; 1] = ["g++"];
/// For `bench`: the rules of the other side.
const BENCH_PACKAGES: [&str; 2] = ["nftables", "iproute2"];
/// A client of the API server that is not ours: PyPI's name and version.
const PYTHON_CLIENT: (&str, &str) = ("kubernetes", "37.0.2");
/// For tests: what makes their networks.
const TEST_PACKAGES: [&str; 1] = ["iproute2"];
/// The same `ping` on every machine.
const BUSYBOX: &str = "busybox-static";
/// The reference CNI plugins, beside ours in one list.
const CNI_PLUGINS: &str = "containernetworking-plugins";
const PYTHON_PACKAGES: [&str; 2] = ["python3", "python3-pip"];
/// For building bpf-linker, once on a machine.
const LINKER_PACKAGES: [&str; 5] = ["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// How the BPF target is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Debian's rustc with its own core for the target.
    Debian,
    /// rustup's nightly, which builds core from rust-src.
    Nightly,
}

pub(crate) fn run(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    check_kernel()?;
    install(clock, "C compiler", &missing(&PACKAGES))?;
    let toolchain = match toolchain() {
        Some(toolchain) => toolchain,
        None => install_toolchain(clock)?,
    };
    linker(places, clock, toolchain)
}

/// What tests run that is not ours: the Python client, the reference CNI plugins, a container runtime and busybox, into the
/// cache; and what makes networks.
pub(crate) fn tests(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    install(clock, "ip and tc, by which tests make networks", &missing(&TEST_PACKAGES))?;
    for package in [CNI_PLUGINS, "containerd", "runc", BUSYBOX] {
        debian::unpacked(places, clock, package)?;
    }
    let directory = places.cache.join("python");
    let (name, version) = PYTHON_CLIENT;
    if directory.join(format!("{name}-{version}.dist-info")).exists() {
        return Ok(());
    }
    if shell::answer("python3", &["-m", "pip", "--version"]).is_none() {
        install(clock, "pip, for the Python client", &missing(&PYTHON_PACKAGES))?;
    }
    clock.step(&format!("fetching {name} {version} into {}", directory.display()), |progress| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--disable-pip-version-check", "--target"]);
        pip.arg(&directory).arg(format!("{name}=={version}"));
        shell::run(progress, pip).map(|_| ())
    })
}

/// Where the reference CNI plugins are, which tests put beside ours in one list.
pub(crate) fn cni_plugins(places: &Places) -> PathBuf {
    places.cache.join("debian").join(CNI_PLUGINS).join("usr/lib/cni")
}

/// Where tests find programs by their names: in the cache first.
///
/// # Errors
/// A path with a colon in it.
pub(crate) fn path(places: &Places) -> anyhow::Result<std::ffi::OsString> {
    let known = std::env::var_os("PATH").unwrap_or_default();
    let cached = places.cache.join("debian").join(BUSYBOX).join("bin");
    std::env::join_paths(std::iter::once(cached).chain(std::env::split_paths(&known)))
        .with_context(|| format!("the cache {} cannot be in a PATH", places.cache.display()))
}

/// What the emulated machine needs.
pub(crate) fn vm(clock: &mut Clock) -> anyhow::Result<()> {
    install(clock, "an emulated machine for the tests", &missing(&VM_PACKAGES))
}

/// What the fuzz targets are linked with.
pub(crate) fn fuzz(clock: &mut Clock) -> anyhow::Result<()> {
    install(clock, "a C++ compiler for the fuzz targets", &missing(&FUZZ_PACKAGES))
}

/// What the bench compares with.
pub(crate) fn bench(clock: &mut Clock) -> anyhow::Result<()> {
    install(clock, "nftables, which the bench compares with", &missing(&BENCH_PACKAGES))
}

/// The toolchain for the BPF target that is there.
pub(crate) fn toolchain() -> Option<Toolchain> {
    let sysroot = shell::answer("/usr/bin/rustc", &["--print", "sysroot"]);
    let has_core = |sysroot: &String| Path::new(sysroot.trim()).join("lib/rustlib/bpfel-unknown-none").exists();
    if sysroot.is_some_and(|sysroot| has_core(&sysroot)) && Path::new("/usr/bin/cargo").exists() {
        return Some(Toolchain::Debian);
    }
    let sysroot = shell::answer("rustup", &["run", "nightly", "rustc", "--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    source.exists().then_some(Toolchain::Nightly)
}

fn install_toolchain(clock: &mut Clock) -> anyhow::Result<Toolchain> {
    if !has_apt() {
        bail!(
            "no toolchain for the BPF target: give rustup's nightly its sources (rustup toolchain install nightly --component rust-src), \
             or use Debian's packages ({})",
            BPF_PACKAGES.join(" ")
        );
    }
    install(clock, "rustc for the BPF target", &missing(&BPF_PACKAGES))?;
    toolchain().context("the packages are installed, but /usr/bin/rustc has no core for bpfel-unknown-none")
}

/// bpf-linker for the toolchain's LLVM, into the cache.
fn linker(places: &Places, clock: &mut Clock, toolchain: Toolchain) -> anyhow::Result<()> {
    if shell::answer(places.bpf_linker(), &["--version"]).is_some() {
        return Ok(());
    }
    let root = places.cache.join("bpf-linker");
    std::fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let mut cargo = shell::cargo(&places.root);
    cargo.args(["install", "bpf-linker", "--version", "^0.13", "--force", "--root"]).arg(&root);
    // A directory of its own: the clone's configuration (static linking) is not for this build.
    cargo.current_dir(&root);
    if toolchain == Toolchain::Debian {
        install(clock, "LLVM for bpf-linker", &missing(&LINKER_PACKAGES))?;
        let prefix = format!("/usr/lib/llvm-{LLVM}");
        cargo.env("LLVM_PREFIX", &prefix).env("LLVM_SYS_221_PREFIX", &prefix);
        cargo.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]);
    }
    clock.step(&format!("building bpf-linker into {}", root.display()), |progress| {
        shell::run(progress, cargo).map(|_| ())
    })
}

fn has_apt() -> bool {
    shell::answer("apt-get", &["--version"]).is_some()
}

/// Of Debian packages, those that are not installed; all of them are taken as there where there is no dpkg.
fn missing(packages: &[&'static str]) -> Vec<&'static str> {
    if shell::answer("dpkg-query", &["--version"]).is_none() {
        return Vec::new();
    }
    let installed = |package: &str| {
        let status = shell::answer("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package]);
        status.is_some_and(|status| status == "installed")
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

fn install(clock: &mut Clock, what: &str, packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!("{what} is missing: run as root, or install it: apt-get install {}", packages.join(" "));
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["--yes", "--quiet"]).args(args);
        command
    };
    clock.step("apt-get update", |progress| shell::run(progress, apt(&["update"])))?;
    clock.step(&format!("{what}: apt-get install {}", packages.join(" ")), |progress| {
        shell::run(progress, apt(&[&["install", "--no-install-recommends"], packages].concat())).map(|_| ())
    })
}

/// Whether this process may install packages and make namespaces.
pub(crate) fn is_root() -> bool {
    shell::answer("id", &["-u"]).is_some_and(|uid| uid.trim() == "0")
}

fn check_kernel() -> anyhow::Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    if let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next())
        && (major, minor) < KERNEL_FLOOR
    {
        bail!("kernel {} is too old: Weft needs {}.{} or later", release.trim(), KERNEL_FLOOR.0, KERNEL_FLOOR.1);
    }
    Ok(())
}
