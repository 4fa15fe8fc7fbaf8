//! The datapath's object into the kernel as the agent loads it: settings, pinned maps, stages.
use std::path::{Path, PathBuf};

use abi::{config::Settings, map};
use anyhow::{Context as _, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::{SchedClassifier, TcAttachType},
};
use zerocopy::IntoBytes;

use crate::{Args, tables};

/// Programs and maps, loaded.
pub(crate) struct Loaded {
    pub(crate) bpf: Ebpf,
    /// Dropped, the kernel would empty it.
    pub(crate) stages: ProgramArray<MapData>,
}

/// The datapath, its maps under `pins`.
pub(crate) fn weft(args: &Args, pins: &Path, settings: &Settings) -> anyhow::Result<Loaded> {
    let mut bpf = load(&args.object, pins, settings)?;
    let mut stages = ProgramArray::try_from(bpf.take_map(map::PROGS.name).context("no PROGS in the object")?)?;
    for (index, stage) in (0..).zip(map::STAGES) {
        stages.set(index, program(&mut bpf, stage)?.fd()?, 0)?;
    }
    Ok(Loaded { bpf, stages })
}

/// An object that only the bench uses; cargo leaves it beside the datapath's.
pub(crate) fn beside(args: &Args, name: &str, pins: &Path, settings: &Settings) -> anyhow::Result<Ebpf> {
    load(&args.object.with_file_name("bpfel-unknown-none").join("release").join(name), pins, settings)
}

fn load(object: &PathBuf, pins: &Path, settings: &Settings) -> anyhow::Result<Ebpf> {
    ensure!(object.exists(), "{} is missing: run cargo xtask build", object.display());
    std::fs::create_dir_all(pins)?;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins).override_global(map::SETTINGS, settings.as_bytes(), false);
    let mut bpf = loader.load_file(object).with_context(|| format!("loading {}", object.display()))?;
    for (name, program) in bpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into()?;
        program.load().with_context(|| format!("loading the program {name}"))?;
    }
    Ok(bpf)
}

/// A program by name.
pub(crate) fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut SchedClassifier> {
    let program = bpf.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
    Ok(program.try_into()?)
}

/// A program onto a device of this thread's namespace, as long as the object lives.
pub(crate) fn attach(bpf: &mut Ebpf, name: &str, device: &str, at: TcAttachType) -> anyhow::Result<()> {
    program(bpf, name)?.attach(device, at).with_context(|| format!("{name} onto {device}"))?;
    Ok(())
}

/// The policy epoch.
pub(crate) fn epoch(bpf: &mut Ebpf, epoch: u64) -> anyhow::Result<()> {
    let config = abi::config::Config { epoch, ..abi::config::Config::default() };
    tables::array(bpf, map::CONFIG.name, [(0, tables::raw::<64>(&config))])
}
