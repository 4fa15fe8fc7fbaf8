//! Waiting until no program that runs now runs any more.
//!
//! `membarrier(2)` waits for a grace period of RCU, 16 ms and more, and CNI ADD waits with it. Programs at tc and XDP run with
//! bottom halves off, so no thread runs on their processor before they return: a thread that has run on every processor
//! once has waited for all of them, mostly within 0.1 ms. Not so on a real-time kernel, where bottom halves are preempted, and
//! not for programs at sockets, which we have none of; and where not every processor may be used, or one is slow to be
//! had, `membarrier` it is.
use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// How long the walk may take.
const PATIENCE: Duration = Duration::from_millis(8);

/// Waits until every program that runs now has returned.
///
/// # Errors
/// What the kernel said, apart from a kernel with nohz_full, which may offer no barrier: there it waits 50 ms.
pub fn wait_for_programs() -> io::Result<()> {
    if walked() { Ok(()) } else { super::syscall::barrier() }
}

/// Runs on every processor in turn, on a thread of its own, which keeps none of it. False if that cannot be done in time.
fn walked() -> bool {
    if fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1") {
        return false;
    }
    let (tell, told) = mpsc::channel();
    let late = Arc::new(AtomicBool::new(false));
    let over = late.clone();
    let walk = move || {
        let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let step = |processor: usize| {
            let mut one = CpuSet::new();
            one.set(processor).is_ok() && sched_setaffinity(Pid::from_raw(0), &one).is_ok()
        };
        let processors = list(&online);
        // Nobody listens any more if it is late.
        let _ = tell
            .send(!processors.is_empty() && processors.into_iter().all(|at| !over.load(Ordering::Relaxed) && step(at)));
    };
    if thread::Builder::new().name("barrier".into()).spawn(walk).is_err() {
        return false;
    }
    let walked = told.recv_timeout(PATIENCE).unwrap_or(false);
    late.store(true, Ordering::Relaxed);
    walked
}

/// The kernel's way to write sets of numbers: `0-3,8`. Empty if it makes no sense.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    let ranges: Option<Vec<_>> = text.trim().split(',').map(range).collect();
    ranges.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[usize]) {
        assert_eq!(list(text), expected);
    }

    #[test]
    fn lists_of_processors() {
        check("0\n", &[0]);
        check("0-1\n", &[0, 1]);
        check("0-2,5,7-8\n", &[0, 1, 2, 5, 7, 8]);
        check("", &[]);
        check("0-1,x", &[]);
    }

    #[test]
    fn it_ends() {
        wait_for_programs().expect("one way or the other");
    }
}
