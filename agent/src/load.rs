//! The BPF object into the kernel: settings, pinned maps, stages. Hooks are attached by `load::attach`.
//!
//! Under `<bpffs>/weft`: the sets of maps that `load::pins` names, `maps/` for those that no layout keeps, `links/` the
//! attachments, `progs/` the array of stages that the attached hooks call. A start reuses the maps that are as it wants
//! them, and replaces programs through the links.
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use abi::{
    config::{FEATURE_BOTH_FLOWS, FEATURE_FORMER_FLOWS, Settings},
    flow,
    map::{self, MapSpec},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, MapInfo, MapType, ProgramArray},
    programs::{ProgramError, SchedClassifier},
};
use zerocopy::IntoBytes;

use crate::{
    apply::{kernel::AyaStore, syscall::RawMap},
    preflight,
    tables::Table,
};
use pins::{FLOW_TABLES, Pins};

pub mod attach;
pub mod carry;
pub mod pins;

/// How often the kernel is asked to take a program.
const TRIES: usize = 10;

/// The object, as `cargo xtask build` made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("WEFT_BPF_OBJECT"));

/// The programs cannot be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no BPF file system.
    #[error("{0} is not a BPF file system: run `mount -t bpf bpf {0}`")]
    NoBpffs(PathBuf),
    /// Something under the BPF file system.
    #[error("cannot {operation} {path}")]
    Path {
        /// "create", "remove".
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object or one of its maps.
    #[error("cannot load the BPF object")]
    Object(#[source] Box<aya::EbpfError>),
    /// A program that the object should have is not there: agent and object are not of one build.
    #[error("the BPF object has no {0}: agent and object are not of one build")]
    Missing(&'static str),
    /// A program.
    #[error("cannot load the program {name}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why, the verifier's words included.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// What the programs log.
    #[error("cannot read the log of the programs")]
    Log(#[source] Box<aya_log::Error>),
    /// A map.
    #[error("cannot open the map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A pinned map is not what its name says.
    #[error("the map {name} has rows of {was} bytes and not of {wanted}: run `weft cleanup` before this version")]
    Layout {
        /// Its name.
        name: &'static str,
        /// Bytes of key and value.
        was: u32,
        /// What they should be.
        wanted: usize,
    },
    /// Rows that go from one set of maps to another.
    #[error("cannot carry the rows of {table} over")]
    Rows {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An attachment.
    #[error("cannot attach {program} to {device}")]
    Attach {
        /// The hook.
        program: &'static str,
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: Box<attach::AttachError>,
    },
}

/// What is loaded.
pub struct Programs {
    pub(crate) bpf: Ebpf,
    /// `<bpffs>/weft`.
    pub(crate) root: PathBuf,
    /// Names of the pins of earlier starts' arrays of stages. Ours, and those of whoever comes after us, are not among them.
    earlier: Vec<String>,
    /// Hooks of the node's own devices are tcx links, not clsact filters.
    pub(crate) tcx: bool,
    /// How pods' hooks are attached. `Auto`: clsact filters, but a link that is there stays one.
    pub(crate) pods: crate::args::Attach,
}

/// Loads the programs with these settings onto the sets of maps of this start; with `other` they write those flow tables
/// too. No hook runs them yet.
///
/// # Errors
/// [`LoadError`].
pub fn load(
    pins: &Pins,
    settings: &Settings,
    attach: crate::args::Attach,
    other: Option<&Path>,
) -> Result<Programs, LoadError> {
    let root = pins.root().to_path_buf();
    let maps = root.join("maps");
    let in_sets: Vec<&MapSpec> = Table::ALL.iter().map(|table| table.spec()).chain(FLOW_TABLES).collect();
    for spec in map::ALL.iter().filter(|spec| spec.pinned && !in_sets.contains(spec)) {
        discard_other_layout(&maps, spec)?;
    }
    let (others, second) = match other.and_then(pins::layout_of) {
        None => (None, 0),
        Some(flow::LAYOUT) => (Some([&map::OTHER_FLOWS, &map::OTHER_HALFOPEN]), FEATURE_BOTH_FLOWS),
        Some(_) => (Some([&map::FORMER_FLOWS, &map::FORMER_HALFOPEN]), FEATURE_FORMER_FLOWS),
    };
    let features = settings.features | second;
    let mut global = [0; size_of::<Settings>()];
    global.copy_from_slice(Settings { features, ..*settings }.as_bytes());
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(&maps).override_global(map::SETTINGS, &global, true);
    for spec in &in_sets {
        let set = if FLOW_TABLES.contains(spec) { &pins.flows } else { &pins.tables };
        loader.map_pin_path(spec.name, set.join(spec.name)).map_max_entries(spec.name, pins.sizes.of(spec));
    }
    if let Some((set, others)) = other.zip(others) {
        for (other, spec) in others.into_iter().zip(FLOW_TABLES) {
            loader.map_pin_path(other.name, set.join(spec.name)).map_max_entries(other.name, pins.sizes.of(spec));
        }
    }
    let mut bpf = loader.load(OBJECT).map_err(|source| LoadError::Object(Box::new(source)))?;
    for name in abi::event::Hook::ALL.map(abi::event::Hook::name).into_iter().chain(map::STAGES) {
        let program = program(&mut bpf, name)?;
        verified(|| program.load()).map_err(|source| LoadError::Program { name, source: Box::new(source) })?;
    }
    let earlier = stages(&mut bpf, &root)?;
    let tcx = match attach {
        crate::args::Attach::Auto => preflight::kernel_is((6, 6)),
        other => other == crate::args::Attach::Tcx,
    };
    Ok(Programs { bpf, root, earlier, tcx, pods: attach })
}

/// Loads a program. The verifier gives up when a signal is pending, as on a busy machine, and wants to be asked again; libbpf
/// does so too.
///
/// # Errors
/// What `load` says.
pub fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let interrupted = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.kind() == io::ErrorKind::WouldBlock,
        _ => false,
    };
    for _ in 1..TRIES {
        match load() {
            Err(error) if interrupted(&error) => {}
            other => return other,
        }
    }
    load()
}

/// Opens the pinned maps of the compiled tables.
///
/// # Errors
/// [`LoadError::Map`].
pub fn store(set: &Path) -> Result<AyaStore, LoadError> {
    let open = |table: &Table| Ok((*table, open(set, table.spec())?));
    Ok(AyaStore::new(Table::ALL.iter().map(open).collect::<Result<BTreeMap<_, _>, LoadError>>()?))
}

/// Opens one pinned map of a set, or of those that are in none.
///
/// # Errors
/// [`LoadError::Map`], [`LoadError::Layout`].
pub fn open(set: &Path, spec: &MapSpec) -> Result<RawMap, LoadError> {
    let map = open_as(set, spec)?;
    let (was, wanted) = (map.row_size(), spec.key + spec.value);
    let same = spec.kind == map::MapKind::PerCpuArray || was == wanted;
    let was = u32::try_from(was).unwrap_or(u32::MAX);
    if same { Ok(map) } else { Err(LoadError::Layout { name: spec.name, was, wanted }) }
}

/// The same, whatever the length of its values.
fn open_as(set: &Path, spec: &MapSpec) -> Result<RawMap, LoadError> {
    let failed = |source| LoadError::Map { name: spec.name, source: Box::new(source) };
    let data = MapData::from_pin(set.join(spec.name)).map_err(failed)?;
    let info = data.info().map_err(failed)?;
    let spec = &MapSpec { value: info.value_size() as usize, max_entries: info.max_entries(), ..*spec };
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(|source| failed(aya::maps::MapError::IoError(source)))?;
    let cpus = aya::util::nr_cpus().unwrap_or(1);
    Ok(RawMap::new(fd, spec, cpus))
}

/// The compiled tables in force.
pub fn tables_dir(bpffs: &Path) -> PathBuf {
    bpffs.join("weft/tables")
}

/// The flow tables in force.
pub fn flows_dir(bpffs: &Path) -> PathBuf {
    bpffs.join("weft/flows")
}

/// Maps that are in no set: counters, events, fragments.
pub fn maps_dir(bpffs: &Path) -> PathBuf {
    bpffs.join("weft/maps")
}

pub(crate) fn program<'a>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, LoadError> {
    let program = bpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    program.try_into().map_err(|source| LoadError::Program { name, source: Box::new(source) })
}

/// Fills the array of stages and pins it: the kernel empties it when no user space holds it. The pins that were there.
fn stages(bpf: &mut Ebpf, root: &Path) -> Result<Vec<String>, LoadError> {
    let name = map::PROGS.name;
    let failed = |source| LoadError::Map { name, source: Box::new(source) };
    let map = bpf.take_map(name).ok_or(LoadError::Missing(name))?;
    let mut array = ProgramArray::try_from(map).map_err(failed)?;
    for (index, stage) in map::STAGES.into_iter().enumerate() {
        let index = u32::try_from(index).expect("a handful of stages");
        let fd = program(bpf, stage)?.fd().and_then(|fd| Ok(fd.try_clone()?));
        let fd = fd.map_err(|source| LoadError::Program { name: stage, source: Box::new(source) })?;
        array.set(index, &fd, 0).map_err(failed)?;
    }
    // A name that no earlier start has: its hooks still run, and call the stages of its own array. No dot in it: bpffs
    // keeps such names for the kernel (EPERM).
    let taken = names(&progs_dir(root));
    let free = (0_u32..).map(|number| format!("{name}-{number}")).find(|name| !taken.contains(name));
    let own = free.expect("there are fewer pins than numbers");
    let pinned = array.pin(progs_dir(root).join(&own));
    pinned.map_err(|error| failed(aya::maps::MapError::PinError { name: Some(name.into()), error }))?;
    Ok(taken)
}

impl Programs {
    /// Forgets the stages of earlier starts. Only once every hook runs the programs of this one.
    ///
    /// # Errors
    /// [`LoadError::Path`].
    pub fn forget_old_stages(&self) -> Result<(), LoadError> {
        let directory = progs_dir(&self.root);
        self.earlier.iter().try_for_each(|name| remove(&directory.join(name)))
    }

    /// Takes what the slow path logs out, if the settings ask for it; once. Dropped, it closes its map.
    ///
    /// # Errors
    /// [`LoadError::Log`].
    pub fn log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, LoadError> {
        aya_log::EbpfLogger::init(&mut self.bpf).map_err(|source| LoadError::Log(Box::new(source)))
    }

    /// Sets what is switched while programs run: bits of `SWITCHES`.
    ///
    /// # Errors
    /// [`LoadError::Missing`], [`LoadError::Map`].
    pub fn switch(&mut self, bits: u64) -> Result<(), LoadError> {
        let name = map::SWITCHES.name;
        let failed = |source| LoadError::Map { name, source: Box::new(source) };
        let map = self.bpf.map_mut(name).ok_or(LoadError::Missing(name))?;
        Array::<_, u64>::try_from(map).and_then(|mut array| array.set(0, bits, 0)).map_err(failed)
    }

    /// Takes the ring buffer of events out; once.
    ///
    /// # Errors
    /// [`LoadError::Missing`], [`LoadError::Map`].
    pub fn events(&mut self) -> Result<aya::maps::RingBuf<MapData>, LoadError> {
        let name = map::EVENTS.name;
        let map = self.bpf.take_map(name).ok_or(LoadError::Missing(name))?;
        map.try_into().map_err(|source| LoadError::Map { name, source: Box::new(source) })
    }
}

fn progs_dir(root: &Path) -> PathBuf {
    root.join("progs")
}

/// Our directory under a BPF file system, with its parts.
///
/// # Errors
/// [`LoadError::NoBpffs`], [`LoadError::Path`].
pub fn root(bpffs: &Path) -> Result<PathBuf, LoadError> {
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let kind = nix::sys::statfs::statfs(bpffs).map(|fs| fs.filesystem_type().0);
    if kind != Ok(BPF_FS_MAGIC) {
        return Err(LoadError::NoBpffs(bpffs.into()));
    }
    let root = bpffs.join("weft");
    for path in ["maps", "links", "progs"].map(|part| root.join(part)) {
        fs::create_dir_all(&path).map_err(|source| LoadError::Path { operation: "create", path, source })?;
    }
    Ok(root)
}

/// A pinned map of another layout is another version's. What it holds may start anew, so it goes; programs that still
/// run keep theirs until they are replaced.
fn discard_other_layout(maps: &Path, spec: &MapSpec) -> Result<(), LoadError> {
    let path = maps.join(spec.name);
    let Ok(info) = MapData::from_pin(&path).and_then(|data| data.info()) else { return Ok(()) };
    let same = kind(&info) == Some(spec.kind)
        && info.key_size() == spec.key as u32
        && info.value_size() == spec.value as u32
        && info.max_entries() == spec.max_entries;
    if !same {
        tracing::info!(map = spec.name, "the pinned map has another layout and is made anew");
        remove(&path)?;
    }
    Ok(())
}

fn kind(info: &MapInfo) -> Option<map::MapKind> {
    match info.map_type().ok()? {
        MapType::Hash => Some(map::MapKind::Hash),
        MapType::LruHash => Some(map::MapKind::LruHash),
        MapType::Array => Some(map::MapKind::Array),
        MapType::PerCpuArray => Some(map::MapKind::PerCpuArray),
        MapType::LpmTrie => Some(map::MapKind::LpmTrie),
        MapType::RingBuf => Some(map::MapKind::RingBuf),
        MapType::ProgramArray => Some(map::MapKind::ProgArray),
        _ => None,
    }
}

pub(crate) fn remove(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LoadError::Path { operation: "remove", path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
