//! Frames by the hundred thousand, as if a device had received them: no socket and no queue is in between, since the kernel
//! itself makes them from a program (`ebpf/src/bin/flood.rs`, BPF_PROG_TEST_RUN with live frames).
use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions,
    programs::{ProgramError, Xdp},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Frames that the kernel makes at once.
const BATCH: u32 = 64;
/// Frames of one request at the most: half a second's. Each request waits twice, a thread at a time and without a processor,
/// for all readers of the program before (the kernel's `bpf_dispatcher_change_prog`): some 15 ms, in which short requests
/// would spend most of their time.
const AT_ONCE: u64 = 62_500;
/// The program's template: Ethernet, IPv4, TCP and a few bytes.
pub(crate) const LENGTH: usize = 64;

/// What is sent, from where, and how long.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// The device that receives it, in the thread's network namespace.
    pub(crate) ifindex: u32,
    /// A SYN with right checksums, padded.
    pub(crate) frame: [u8; LENGTH],
    /// Source addresses, from the frame's on.
    pub(crate) sources: u32,
    /// Frames a second, if the machine can.
    pub(crate) rate: u64,
    pub(crate) time: Duration,
    /// The processor that does it all: what a frame causes goes on where it was made.
    pub(crate) processor: usize,
}

/// Those that this process may use.
pub(crate) fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("a process has processors");
    (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap_or(false)).collect()
}

fn object() -> PathBuf {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o");
    let object = std::env::var_os("WEFT_BPF_OBJECT").map_or(object, PathBuf::from);
    let path = object.with_file_name("bpfel-unknown-none").join("release/weft-bpf-flood");
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

/// What went.
pub(crate) struct Poured {
    pub(crate) sent: u64,
    /// From the first frame to the end of the last one.
    pub(crate) took: Duration,
    /// Processor time of the frames and of all that became of them.
    pub(crate) busy: Duration,
}

/// Sends at the rate, or as fast as it goes, until the time is over.
pub(crate) fn pour(flood: &Flood) -> Poured {
    let mut alone = CpuSet::new();
    alone.set(flood.processor).expect("a number of a processor");
    sched_setaffinity(Pid::from_raw(0), &alone).expect("a processor that this process may use");
    let mut loader = EbpfLoader::new();
    loader.override_global("FRAME", &flood.frame[..], true).override_global("SOURCES", &flood.sources, true);
    let mut ebpf: Ebpf = loader.load_file(object()).expect("the object loads");
    let program: &mut Xdp = ebpf.program_mut("flood").unwrap().try_into().unwrap();
    agent::load::verified(|| program.load()).expect("the program loads");
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, LENGTH as u32, 0, flood.ifindex, 0, 0].map(u32::to_ne_bytes).concat();
    let (begun, busy, mut sent) = (Instant::now(), processor_time(), 0);
    while begun.elapsed() < flood.time {
        let due = begun.elapsed().as_micros() as u64 * flood.rate / 1_000_000;
        let Some(number @ 1..) = due.checked_sub(sent).map(|behind| behind.min(AT_ONCE)) else {
            thread::sleep(Duration::from_micros(500));
            continue;
        };
        let mut options = TestRunOptions::new();
        options.data_in = Some(&flood.frame);
        options.ctx_in = Some(&context);
        options.repeat = number as u32;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        match program.test_run(options) {
            Ok(_) => sent += number,
            Err(error) => assert!(interrupted(&error), "frames that the kernel makes: {error:?}"),
        }
    }
    Poured { sent, took: begun.elapsed(), busy: processor_time() - busy }
}

/// A signal came; how many had gone by then is not told.
fn interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call) if call.io_error.kind() == std::io::ErrorKind::Interrupted)
}

/// This thread's.
fn processor_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time)
}
