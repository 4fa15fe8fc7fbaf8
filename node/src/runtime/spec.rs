//! A container's configuration → the OCI runtime spec. Pure.
//!
//! The defaults are containerd's for Kubernetes: its capabilities without MKNOD, its masked and read-only paths, its
//! mounts. Namespaces of the sandbox are joined by path; pid and mount are the container's own.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::user::User;
use super::{ContainerConfig, Resources, Security};
use crate::image::ImageConfig;

/// cgroup v1's period for CPU quotas, in microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// Given to containers whose image sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's default set, without MKNOD: a device node made by a container would open a device of the node.
const CAPABILITIES: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability of Linux up to 5.9, by number.
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the image nor the pod says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The image's user is unknown.
    #[error(transparent)]
    User(#[from] super::user::UnknownName),
    /// What was put together is not a spec.
    #[error("describe container {name}")]
    NotASpec {
        /// The container's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Everything that the spec depends on.
#[derive(Debug)]
pub struct Input<'a> {
    /// The pod's wishes.
    pub config: &'a ContainerConfig,
    /// The image's.
    pub image: &'a ImageConfig,
    /// Resolved against the image's passwd.
    pub user: &'a User,
    /// `(kind, path)` of the sandbox's namespaces to join: `network`, `uts`, `ipc`.
    pub namespaces: &'a [(&'static str, PathBuf)],
    /// The container's cgroup.
    pub cgroup: &'a str,
    /// `HOSTNAME`.
    pub hostname: &'a str,
    /// The sandbox's shared memory.
    pub shm: &'a Path,
    /// Bits of the capabilities that this process has: no more can be given away.
    pub available: u64,
}

/// Puts the spec together.
pub fn generate(input: &Input<'_>) -> Result<Spec, Error> {
    let args = arguments(input.config, input.image);
    if args.is_empty() {
        return Err(Error::NoCommand);
    }
    let security = &input.config.security;
    let capabilities = capabilities(security, input.available);
    let cwd = [&input.config.working_dir, &input.image.working_dir].into_iter().find(|dir| !dir.is_empty());
    let value = json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": security.read_only_rootfs},
        "process": {
            "terminal": false,
            "args": args,
            "cwd": cwd.map_or("/", String::as_str),
            "env": environment(input),
            "user": {"uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups},
            "noNewPrivileges": security.no_new_privileges,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": mounts(input),
        "linux": {
            "cgroupsPath": input.cgroup,
            "namespaces": namespaces(input),
            "resources": resources(&input.config.resources, security.privileged),
            "maskedPaths": if security.privileged { &[][..] } else { &MASKED[..] },
            "readonlyPaths": if security.privileged { &[][..] } else { &READ_ONLY[..] },
        },
    });
    serde_json::from_value(value).map_err(|source| Error::NotASpec { name: input.config.name.clone(), source })
}

/// Kubernetes' rule: `command` replaces entrypoint and drops cmd, `args` replaces cmd.
fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Vec<String> {
    let entrypoint = image.entrypoint.clone().unwrap_or_default();
    let (mut words, rest) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (config.command.clone(), config.args.clone()),
        (true, false) => (entrypoint, config.args.clone()),
        (true, true) => (entrypoint, image.cmd.clone().unwrap_or_default()),
    };
    words.extend(rest);
    words
}

/// The image's variables, then the pod's over them; PATH, HOSTNAME and HOME where nobody sets them.
fn environment(input: &Input<'_>) -> Vec<String> {
    let mut env: Vec<(String, String)> = vec![("HOSTNAME".to_owned(), input.hostname.to_owned())];
    let split = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let image = input.image.env.iter().flatten().filter_map(split);
    for (name, value) in image.chain(input.config.env.iter().cloned()) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        }
    }
    for default in [DEFAULT_PATH.to_owned(), format!("HOME={}", input.user.home)] {
        let (name, value) = split(&default).expect("written with an equals sign");
        if !env.iter().any(|(known, _)| *known == name) {
            env.push((name, value));
        }
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn capabilities(security: &Security, available: u64) -> Vec<String> {
    let names =
        |list: &[String]| list.iter().map(|name| name.trim_start_matches("CAP_").to_uppercase()).collect::<Vec<_>>();
    let (add, drop) = (names(&security.add_capabilities), names(&security.drop_capabilities));
    let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
    let wanted = |name: &str| {
        let default = CAPABILITIES.contains(&name) && !has(&drop, "ALL");
        security.privileged
            || (has(&add, "ALL") && !has(&drop, name))
            || has(&add, name)
            || (default && !has(&drop, name))
    };
    let given = ALL_CAPABILITIES.iter().enumerate().filter(|(bit, _)| available & (1 << bit) != 0);
    given.filter(|(_, name)| wanted(name)).map(|(_, name)| format!("CAP_{name}")).collect()
}

fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let mut namespaces = vec![json!({"type": "mount"})];
    if !input.config.security.host_pid {
        namespaces.push(json!({"type": "pid"}));
    }
    namespaces.extend(input.namespaces.iter().map(|(kind, path)| json!({"type": kind, "path": path})));
    namespaces
}

fn mounts(input: &Input<'_>) -> Vec<Value> {
    let sys = if input.config.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]}),
        json!({"destination": "/dev/shm", "type": "bind", "source": input.shm, "options": ["rbind", "rprivate", "nosuid", "nodev", "rw"]}),
    ];
    for mount in &input.config.mounts {
        let write = if mount.read_only { "ro" } else { "rw" };
        mounts.retain(|one| one["destination"] != json!(mount.container_path));
        mounts.push(json!({"destination": mount.container_path, "type": "bind", "source": mount.host_path,
            "options": ["rbind", "rprivate", "nodev", write]}));
    }
    mounts
}

fn resources(resources: &Resources, privileged: bool) -> Value {
    let mut cpu = json!({"shares": resources.cpu_shares.max(2)});
    if resources.cpu_quota > 0 {
        cpu["quota"] = json!(resources.cpu_quota);
        cpu["period"] = json!(CPU_PERIOD);
    }
    // The device rules come first; the runtime adds null, zero, full, random, urandom, tty, ptmx and pts after them.
    let mut value = json!({"cpu": cpu, "devices": [{"allow": privileged, "access": "rwm"}]});
    if resources.memory_limit > 0 {
        // The same limit for memory and swap: no swap, as the kubelet has it on cgroup v1.
        value["memory"] = json!({"limit": resources.memory_limit, "swap": resources.memory_limit});
    }
    value
}

#[cfg(test)]
mod tests;
