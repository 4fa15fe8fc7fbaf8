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

/// Frames that the kernel makes at once.
const BATCH: u32 = 64;
/// Frames of one request: a hundredth of a second's.
const AT_ONCE: u64 = 2_500;
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
}

fn object() -> PathBuf {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o");
    let object = std::env::var_os("WEFT_BPF_OBJECT").map_or(object, PathBuf::from);
    let path = object.with_file_name("bpfel-unknown-none").join("release/weft-bpf-flood");
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

/// Sends at the rate, or as fast as it goes, until the time is over; how many went, and the processor time that they and
/// all that became of them took.
pub(crate) fn pour(flood: &Flood) -> (u64, Duration) {
    let mut loader = EbpfLoader::new();
    loader.override_global("FRAME", &flood.frame[..], true).override_global("SOURCES", &flood.sources, true);
    let mut ebpf: Ebpf = loader.load_file(object()).expect("the object loads");
    let program: &mut Xdp = ebpf.program_mut("flood").unwrap().try_into().unwrap();
    program.load().expect("the program loads");
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, LENGTH as u32, 0, flood.ifindex, 0, 0].map(u32::to_ne_bytes).concat();
    let (begun, busy, mut sent) = (Instant::now(), processor(), 0);
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
    (sent, processor() - busy)
}

/// A signal came; how many had gone by then is not told.
fn interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call) if call.io_error.kind() == std::io::ErrorKind::Interrupted)
}

/// This thread's.
fn processor() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time)
}
