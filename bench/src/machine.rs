//! The machine as it describes itself: every figure belongs to one.
use std::{fmt, fs, process::Command};

use anyhow::Context as _;
use serde::Serialize;

/// Where and when.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// As the CPU names itself.
    cpu: String,
    /// Processors that are online.
    cores: usize,
    /// MiB.
    memory_mib: u64,
    /// Release of Linux.
    kernel: String,
    /// What it runs on, if it says so.
    hypervisor: String,
    /// Share of the processors that others used just before, in per cent.
    busy_percent: f64,
    /// UTC.
    date: String,
    /// Of the tree; with `+` if files differ from it.
    commit: String,
}

impl Machine {
    pub(crate) fn look() -> anyhow::Result<Machine> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
        };
        let meminfo = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
        let kib = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
        let virtual_machine = cpuinfo.contains(" hypervisor ") || cpuinfo.contains(" hypervisor\n");
        Ok(Machine {
            cpu: format!("{}, family {} model {}", field("model name"), field("cpu family"), field("model\t")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
            kernel: kernel.trim().to_owned(),
            hypervisor: if virtual_machine { "a virtual machine" } else { "bare metal" }.to_owned(),
            busy_percent: busy()?,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit(),
        })
    }
}

/// Share of the processors' time that was used over half a second in which we sleep.
fn busy() -> anyhow::Result<f64> {
    let ticks = || -> anyhow::Result<(u64, u64)> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let idle = ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0);
        Ok((ticks.iter().take(8).sum(), idle))
    };
    let (before, idle_before) = ticks()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (after, idle_after) = ticks()?;
    let all = (after - before).max(1) as f64;
    Ok((100.0 * (1.0 - (idle_after - idle_before) as f64 / all)).round())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    if changed { head + "+" } else { head }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores of {}, {} MiB, {}, Linux {}; {}, commit {}; {} % busy with other things before the run",
            self.cores,
            self.cpu,
            self.memory_mib,
            self.hypervisor,
            self.kernel,
            self.date,
            self.commit,
            self.busy_percent
        )
    }
}
