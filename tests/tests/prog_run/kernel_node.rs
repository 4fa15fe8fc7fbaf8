//! A node whose datapath is the real one: the programs loaded into a network namespace of the test's own, run by
//! BPF_PROG_TEST_RUN.
use abi::{config::Settings, map};
use aya::{Ebpf, EbpfLoader, maps::ProgramArray, programs::SchedClassifier};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::path::{Path, PathBuf};
use zerocopy::IntoBytes;

/// The loaded programs and their maps.
pub(crate) struct KernelNode {
    ebpf: Ebpf,
}

/// Where the object is.
fn object() -> PathBuf {
    let path = std::env::var_os("WEFT_BPF_OBJECT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/weft.bpf.o"),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

impl KernelNode {
    /// Loads everything in namespaces of this thread's own.
    pub(crate) fn start(settings: &Settings) -> KernelNode {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("namespaces need root");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
        let pins = tempfile_dir();
        mount(Some("bpf"), &pins, Some("bpf"), MsFlags::empty(), none).expect("bpffs");
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(&pins).override_global(map::SETTINGS, settings.as_bytes(), true);
        for spec in [map::PEERS, map::CIDRS, map::POLICY, map::SERVICES, map::SLOTS, map::BACKENDS, map::FLOWS, map::HALFOPEN] {
            loader.map_max_entries(spec.name, 1024);
        }
        let mut ebpf = loader.load_file(object()).expect("the object loads");
        let names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let program: &mut SchedClassifier = ebpf.program_mut(&name).unwrap().try_into().unwrap();
            if let Err(error) = program.load() {
                panic!("{name}: {}", explain(&error));
            }
        }
        let mut progs = ProgramArray::try_from(ebpf.take_map(map::PROGS.name).unwrap()).unwrap();
        for (index, name) in map::STAGES.iter().enumerate() {
            let program: &SchedClassifier = ebpf.program(name).unwrap().try_into().unwrap();
            progs.set(index as u32, program.fd().unwrap(), 0).unwrap();
        }
        KernelNode { ebpf }
    }

    /// Name, instructions that the verifier went through, and translated bytes of each program.
    pub(crate) fn sizes(&self) -> Vec<(String, u32, u32)> {
        let mut sizes: Vec<_> = self
            .ebpf
            .programs()
            .map(|(name, program)| {
                let info = program.info().unwrap();
                (
                    name.to_owned(),
                    info.verified_instruction_count().unwrap_or(0),
                    info.size_translated().unwrap_or(0),
                )
            })
            .collect();
        sizes.sort();
        sizes
    }
}

fn explain(error: &dyn std::error::Error) -> String {
    let text = format!("{error}");
    let tail: Vec<&str> = text.lines().rev().take(60).collect();
    let mut out = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    if let Some(source) = error.source() {
        out.push_str(&format!("\n{source}"));
    }
    out
}

fn tempfile_dir() -> PathBuf {
    let path = std::env::temp_dir().join(format!("weft-prog-run-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}
