//! The guest's kernel: Debian's cloud image, unpacked in the cache, with the modules that we need in loading order.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{clock::Clock, debian, places::Places, shell};

/// The meta package whose one image is meant.
const META: &str = "linux-image-cloud-amd64";
/// What pods and their network need: everything else of ours is built in.
const MODULES: [&str; 7] = ["veth", "bridge", "vxlan", "sch_ingress", "sch_tbf", "cls_bpf", "overlay"];

/// A kernel to boot.
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// Files, each after those that it depends on.
    pub(super) modules: Vec<PathBuf>,
}

pub(super) fn find(places: &Places, clock: &mut Clock) -> anyhow::Result<Kernel> {
    let package = match cached(places) {
        Some(package) => package,
        None => newest(clock)?,
    };
    let root = debian::unpacked(places, clock, &package)?;
    let release = package.strip_prefix("linux-image-").unwrap_or(&package).to_owned();
    let modules = modules(places, clock, &root, &release)?;
    Ok(Kernel { image: root.join(format!("boot/vmlinuz-{release}")), modules, release })
}

/// A kernel that an earlier run unpacked.
fn cached(places: &Places) -> Option<String> {
    let entries = fs::read_dir(places.cache.join("debian")).ok()?;
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| is_image(name) && !name.contains(".new-")).max()
}

fn newest(clock: &mut Clock) -> anyhow::Result<String> {
    let find = || debian::dependencies(META).into_iter().find(|name| is_image(name));
    if let Some(package) = find() {
        return Ok(package);
    }
    clock.step("apt-get update", |progress| {
        let mut update = Command::new("apt-get");
        update.args(["--quiet", "update"]);
        shell::run(progress, update).map(|_| ())
    })?;
    find().with_context(|| format!("apt knows no kernel behind {META}: the guest's kernel comes from Debian's archive"))
}

fn is_image(package: &str) -> bool {
    package.starts_with("linux-image-") && package.ends_with("-cloud-amd64") && package != META
}

/// Asks busybox's depmod, as the package leaves that to the machine on which it is installed.
fn modules(places: &Places, clock: &mut Clock, root: &Path, release: &str) -> anyhow::Result<Vec<PathBuf>> {
    let directory = root.join("lib/modules").join(release);
    let table = directory.join("modules.dep");
    if !table.exists() {
        let busybox = debian::unpacked(places, clock, "busybox-static")?.join("bin/busybox");
        let mut depmod = Command::new(busybox);
        depmod.args(["depmod", "-b"]).arg(root).arg(release);
        clock.step("listing the kernel's modules", |progress| shell::run(progress, depmod).map(|_| ()))?;
    }
    let text = fs::read_to_string(&table).with_context(|| format!("reading {}", table.display()))?;
    let mut order = Vec::new();
    for module in MODULES {
        let file = format!("/{module}.ko");
        let (path, before) = dependencies(&text)
            .into_iter()
            .find(|(path, _)| path.ends_with(&file))
            .with_context(|| format!("{release} has no module {module}"))?;
        // modules.dep names the nearest first.
        for path in before.into_iter().rev().chain([path]) {
            let path = directory.join(path);
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// Module file → all modules that it needs, as modules.dep writes them.
fn dependencies(table: &str) -> BTreeMap<String, Vec<String>> {
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(path, needs)| (path.to_owned(), needs.split_whitespace().map(str::to_owned).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_modules_dep() {
        let table = dependencies("kernel/a/b.ko: kernel/c.ko kernel/d.ko\nkernel/d.ko:\n");
        assert_eq!(table["kernel/a/b.ko"], ["kernel/c.ko", "kernel/d.ko"]);
        assert!(table["kernel/d.ko"].is_empty());
    }

    #[test]
    fn knows_an_image_from_its_meta_package() {
        assert!(is_image("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!is_image("linux-image-cloud-amd64"));
        assert!(!is_image("linux-image-6.1.0-56-amd64"));
    }
}
