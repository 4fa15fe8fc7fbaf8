//! What the machine must offer before anything is made: each lack is one line that says what to do.

use std::fs;

use crate::cgroup;

/// Oldest kernel on which the datapath loads: Debian 12's own.
pub const KERNEL_FLOOR: (u32, u32) = (6, 1);

/// A machine that cannot hold a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("a local cluster makes namespaces and loads BPF programs: run it as root (sudo)")]
    NotRoot,
    /// Root without the capabilities, as in an ordinary container.
    #[error("root lacks the capability {0}: run on the machine itself, or in a privileged container")]
    Capability(&'static str),
    /// Too old.
    #[error("kernel {0} is too old: Weft needs {floor_0}.{floor_1} or later", floor_0 = KERNEL_FLOOR.0, floor_1 = KERNEL_FLOOR.1)]
    Kernel(String),
    /// Built without it.
    #[error("this kernel has no {0}: Weft needs a kernel built with it, as distributions' kernels are")]
    Feature(&'static str),
    /// No cgroups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
}

/// Refuses a machine that cannot hold a cluster.
pub fn check() -> Result<(), Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(missing) = missing_capability(&status) {
        return Err(Error::Capability(missing));
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !kernel_is_new_enough(&release) {
        return Err(Error::Kernel(release.trim().to_owned()));
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.split_whitespace().last() == Some("bpf")) {
        return Err(Error::Feature("BPF (CONFIG_BPF_SYSCALL)"));
    }
    if !std::path::Path::new("/proc/self/ns/net").exists() {
        return Err(Error::Feature("network namespaces (CONFIG_NET_NS)"));
    }
    cgroup::hierarchies()?;
    Ok(())
}

fn missing_capability(status: &str) -> Option<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let held = u64::from_str_radix(line.trim(), 16).ok()?;
    let needed = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];
    needed.into_iter().find(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| name)
}

/// An unreadable release is let through: the kernel's own refusals follow.
fn kernel_is_new_enough(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= KERNEL_FLOOR,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_kernel(release: &str, good: bool) {
        assert_eq!(kernel_is_new_enough(release), good, "{release}");
    }

    #[test]
    fn kernels() {
        check_kernel("6.1.0-18-amd64", true);
        check_kernel("6.18.44-fc", true);
        check_kernel("7.0", true);
        check_kernel("6.0.9", false);
        check_kernel("5.15.0-91-generic", false);
    }

    #[test]
    fn capabilities() {
        assert_eq!(missing_capability("CapEff:\t000001fffeffffff\n"), None);
        assert_eq!(missing_capability("CapEff:\t00000000a80425fb\n"), Some("CAP_NET_ADMIN"));
        assert_eq!(missing_capability("CapEff:\t0000000000001000\n"), Some("CAP_SYS_ADMIN"));
    }
}
