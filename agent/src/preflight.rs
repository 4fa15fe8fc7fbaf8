//! What the agent needs of the machine, looked at before anything else: each lack is one line that says what to do.
use std::fs;

use aya::programs::ProgramType;

/// Linux that we need (design: Debian 12's own).
pub const FLOOR: (u8, u8) = (6, 1);

/// The machine or the account does not do.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Not root, or root without the capabilities, as in an ordinary container.
    #[error(
        "the capability {0} is missing: run this as root (sudo), or in a container with securityContext.privileged"
    )]
    Capability(&'static str),
    /// The kernel is older than the floor.
    #[error("kernel {0} is too old: Weft needs Linux {major}.{minor} or later", major = FLOOR.0, minor = FLOOR.1)]
    OldKernel(String),
    /// The kernel is built without, or a policy of the machine forbids it.
    #[error(
        "this kernel loads no tc programs: it needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF, and nothing that forbids bpf(2)"
    )]
    NoBpf,
}

/// Refuses a machine on which the datapath cannot be loaded.
///
/// # Errors
/// [`PreflightError`].
pub fn check() -> Result<(), PreflightError> {
    capabilities()?;
    if !kernel_is(FLOOR) {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        return Err(PreflightError::OldKernel(release.unwrap_or_default()));
    }
    match aya::sys::is_program_supported(ProgramType::SchedClassifier) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(PreflightError::NoBpf),
    }
}

/// Refuses an account that may not change the node's network.
///
/// # Errors
/// [`PreflightError::Capability`].
pub fn capabilities() -> Result<(), PreflightError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing(&status).map_or(Ok(()), |name| Err(PreflightError::Capability(name)))
}

fn missing(status: &str) -> Option<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let held = u64::from_str_radix(line.trim(), 16).ok()?;
    let needed = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];
    needed.into_iter().find(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| name)
}

/// True for this release of Linux or a later one; also where the release cannot be read.
pub fn kernel_is((major, minor): (u8, u8)) -> bool {
    aya::util::KernelVersion::current().map_or(true, |now| now >= aya::util::KernelVersion::new(major, minor, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_name() {
        assert_eq!(missing("CapEff:\t000001ffffffffff\n"), None);
        assert_eq!(missing("CapEff:\t00000000a80425fb\n"), Some("CAP_NET_ADMIN"));
        assert_eq!(missing("CapEff:\t0000000000001000\n"), Some("CAP_SYS_ADMIN"));
    }
}
