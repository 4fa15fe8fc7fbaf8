//! The guest's root file system: one archive in memory with our programs, without their line tables, and iproute2.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::{TESTS, kernel::Kernel};
use crate::{image, places::Places, shell};

/// What tests and `weft` execute, beside busybox.
const TOOLS: [&str; 2] = ["ip", "tc"];

/// Every TLS client of ours loads the machine's authorities, also where a kubeconfig brings its own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes the root and packs it; the path of the archive.
pub(super) fn pack(places: &Places, kernel: &Kernel, tests: &[(String, PathBuf)]) -> anyhow::Result<PathBuf> {
    let directory = places.target.join("vm");
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    let busybox = places.cache.join("debian/busybox-static/bin/busybox");
    put(&busybox, &root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh")).context("linking sh")?;
    write(&root.join("init"), include_str!("init.sh"))?;
    for (number, module) in kernel.modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        put(module, &root.join(format!("modules/{number:02}-{name}")))?;
    }
    for tool in TOOLS {
        put_with_libraries(tool, &root)?;
    }
    put(Path::new(AUTHORITIES), &inside(&root, Path::new(AUTHORITIES)))?;
    for (name, path) in tests {
        strip(path, &root.join("weft").join(name))?;
    }
    for program in ["weft", "weft-cni"] {
        strip(&places.programs().join(program), &root.join("weft").join(program))?;
    }
    for image in image::paths(places) {
        put(&image, &root.join("weft").join(image.file_name().unwrap_or_default()))?;
    }
    // Where the tests were built to look for it, from the directory of their crate.
    put(&places.bpf_object(), &inside(&root, &places.bpf_object()))?;
    for program in ["weft-bpf-tunnel", "weft-bpf-flood"] {
        let program = places.target.join("bpf/bpfel-unknown-none/release").join(program);
        put(&program, &inside(&root, &program))?;
    }
    let crate_of_tests = inside(&root, &places.root.join("tests"));
    fs::create_dir_all(&crate_of_tests).with_context(|| format!("making {}", crate_of_tests.display()))?;
    write(&root.join("weft/pod.yaml"), include_str!("pod.yaml"))?;
    write(&root.join("weft/run"), &script())?;
    let archive = directory.join("root.cpio");
    archive_of(&busybox, &root, &archive)?;
    Ok(archive)
}

/// The steps in order; `init.sh` runs the script when the machine is ready.
fn script() -> String {
    let mut script = "#!/bin/sh\n".to_owned();
    for test in &TESTS {
        script += &format!("step {0} /weft/{0} {1}\n", test.test, test.arguments);
    }
    script
        + "step pod /weft/weft up --name vm --nodes 1 --image /weft/busybox-1.0.tar --manifest /weft/pod.yaml\nstep down /weft/weft down --name vm\n"
}

/// An absolute path of this machine, below the guest's root.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    make_parent(to)?;
    fs::copy(from, to).map(|_| ()).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

fn write(to: &Path, text: &str) -> anyhow::Result<()> {
    make_parent(to)?;
    fs::write(to, text)
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("writing {}", to.display()))
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("a file has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))
}

fn strip(from: &Path, to: &Path) -> anyhow::Result<()> {
    make_parent(to)?;
    let status =
        Command::new("strip").arg("--strip-all").arg("-o").args([to, from]).status().context("starting strip")?;
    anyhow::ensure!(status.success(), "strip {}: {status}", from.display());
    Ok(())
}

/// A dynamic program of this machine, with what ldd says that it loads.
fn put_with_libraries(program: &str, root: &Path) -> anyhow::Result<()> {
    let path = shell::answer("sh", &["-c", &format!("PATH=$PATH:/sbin:/usr/sbin command -v {program}")]);
    let Some(path) = path.map(|path| PathBuf::from(path.trim())) else {
        bail!("{program} is missing: apt-get install iproute2")
    };
    put(&path, &root.join("bin").join(program))?;
    let listing =
        shell::answer("ldd", &[&path.to_string_lossy()]).with_context(|| format!("ldd {}", path.display()))?;
    for library in listing.split_whitespace().filter(|word| word.starts_with('/')) {
        put(Path::new(library), &inside(root, Path::new(library)))?;
    }
    Ok(())
}

fn archive_of(busybox: &Path, root: &Path, archive: &Path) -> anyhow::Result<()> {
    let file = fs::File::create(archive).with_context(|| format!("making {}", archive.display()))?;
    let mut find = Command::new(busybox).args(["find", "."]).current_dir(root).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("the pipe of find")?;
    let mut cpio = Command::new(busybox);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root).stdin(names).stdout(file).stderr(Stdio::null());
    let packed = cpio.status().context("starting busybox cpio")?;
    anyhow::ensure!(find.wait()?.success() && packed.success(), "packing {} failed", root.display());
    Ok(())
}
