//! Which maps a start uses: sets of them, each in a directory that is named by its layout.
//!
//! `tables-<hash>` holds every compiled table, `flows-<layout>-<hash>` the flow tables; the links `tables` and `flows`
//! name the sets in force. The hash is of kinds, sizes and numbers of rows, so a version or a setting that wants other
//! ones gets a set of its own, and the programs that still run keep theirs, whole and unchanged, until they are replaced.
//! A version before these names had everything in `maps`.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use abi::{
    flow::{FORMER, LAYOUT},
    map::{self, MapSpec, TABLES_LAYOUT},
};

use super::{LoadError, names};
use crate::tables::Table;

/// The flow tables.
pub const FLOW_TABLES: [&MapSpec; 2] = [&map::FLOWS, &map::HALFOPEN];
/// Tables whose number of rows is a setting. The arrays' are part of how places are given out.
const SIZED: [&MapSpec; 7] =
    [&map::ROUTES, &map::PEERS, &map::CIDRS, &map::POLICY, &map::SERVICES, &map::FLOWS, &map::HALFOPEN];
/// The most rows that a table may be given: the kernel takes them all from memory at once.
const MOST: u32 = 16 * 1_024 * 1_024;
/// Where everything was before there were sets.
const LEGACY: &str = "maps";

/// Another number of rows for a table (`--table-rows`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableRows {
    /// The table's name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u32,
}

impl std::str::FromStr for TableRows {
    type Err = String;

    fn from_str(text: &str) -> Result<TableRows, String> {
        let list = || SIZED.map(|spec| spec.name).join(", ");
        let (name, rows) = text.split_once('=').ok_or_else(|| format!("{text} is not TABLE=ROWS"))?;
        let spec = SIZED.iter().find(|spec| spec.name.eq_ignore_ascii_case(name));
        let spec = spec.ok_or_else(|| format!("{name} is no table whose rows can be set: {}", list()))?;
        let rows = rows.parse::<u32>().ok().filter(|rows| (64..=MOST).contains(rows));
        let rows = rows.ok_or_else(|| format!("{text}: a number of rows between 64 and {MOST} is wanted"))?;
        Ok(TableRows { table: spec.name, rows })
    }
}

/// Rows of every table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sizes(BTreeMap<&'static str, u32>);

impl Sizes {
    /// The defaults, but for these.
    pub fn new(rows: &[TableRows]) -> Sizes {
        Sizes(rows.iter().map(|row| (row.table, row.rows)).collect())
    }

    /// Rows of one table.
    pub fn of(&self, spec: &MapSpec) -> u32 {
        self.0.get(spec.name).copied().unwrap_or(spec.max_entries)
    }

    fn hash<'a>(&self, specs: impl IntoIterator<Item = &'a MapSpec>) -> u64 {
        let word =
            |spec: &MapSpec| format!("{} {:?} {} {} {};", spec.name, spec.kind, spec.key, spec.value, self.of(spec));
        let text: String = specs.into_iter().map(word).collect();
        objects::content::hash(&text, u64::from(TABLES_LAYOUT)) & 0xffff_ffff
    }

    /// Name of the set of compiled tables.
    pub fn tables(&self) -> String {
        format!("tables-{:08x}", self.hash(Table::ALL.iter().map(|table| table.spec())))
    }

    /// Name of the set of flow tables of a layout.
    pub fn flows(&self, layout: u32) -> String {
        format!("flows-{layout}-{:08x}", self.hash(&map::flow_tables(layout)))
    }
}

/// The sets of a start.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    /// Rows of every table.
    pub sizes: Sizes,
    /// The compiled tables of this start.
    pub tables: PathBuf,
    /// Those in force until now, if they are others.
    pub former_tables: Option<PathBuf>,
    /// The flow tables of this start.
    pub flows: PathBuf,
    /// Those in force until now, if they are others whose rows this version reads.
    pub former_flows: Option<PathBuf>,
    /// Flow tables that are kept as well, for an earlier version that is to take over.
    pub hand_over: Option<PathBuf>,
}

impl Pins {
    /// Chooses, and makes room: what is left of a start that never came to its end goes.
    ///
    /// # Errors
    /// [`LoadError::Path`].
    pub fn choose(root: &Path, sizes: Sizes, hand_over: Option<u32>) -> Result<Pins, LoadError> {
        let (tables, flows) = (root.join(sizes.tables()), root.join(sizes.flows(LAYOUT)));
        let hand_over = hand_over.map(|layout| root.join(sizes.flows(layout)));
        let (were_tables, were_flows) = (in_force(root, "tables", &map::POD), in_force(root, "flows", &map::FLOWS));
        let unread = were_flows.as_deref().and_then(layout_of).filter(|were| ![FORMER, LAYOUT].contains(were));
        match unread {
            Some(newer) if newer > LAYOUT => tracing::warn!(
                newer,
                "the flows in force were written by a newer version and cannot be read: connections may break; \
                 run the newer agent with --hand-over {LAYOUT} before going back to this version"
            ),
            Some(older) => tracing::warn!(
                older,
                "the flows in force were written by a version long before and cannot be read: connections may break; \
                 a version with layout {FORMER} in between would carry them over"
            ),
            None => {}
        }
        for set in [Some(&tables), Some(&flows), hand_over.as_ref()].into_iter().flatten() {
            if ![&were_tables, &were_flows].contains(&&Some(set.clone())) {
                remove_set(set)?;
            }
            fs::create_dir_all(set).map_err(|source| failed("create", set, source))?;
        }
        Ok(Pins {
            root: root.into(),
            sizes,
            former_tables: were_tables.filter(|were| *were != tables),
            former_flows: were_flows.filter(|were| *were != flows && unread.is_none()),
            tables,
            flows,
            hand_over,
        })
    }

    /// `<bpffs>/weft`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names the sets as those in force, and removes all others: no hook uses them any more.
    ///
    /// # Errors
    /// [`LoadError::Path`].
    pub fn settle(&self) -> Result<(), LoadError> {
        self.point("tables", &self.tables)?;
        self.point("flows", self.hand_over.as_ref().unwrap_or(&self.flows))?;
        let ours: Vec<&PathBuf> =
            [Some(&self.tables), Some(&self.flows), self.hand_over.as_ref()].into_iter().flatten().collect();
        for name in
            names(&self.root).into_iter().filter(|name| name.starts_with("tables-") || name.starts_with("flows-"))
        {
            let set = self.root.join(name);
            if !ours.contains(&&set) {
                remove_set(&set)?;
            }
        }
        let legacy = Table::ALL.iter().map(|table| table.spec()).chain(FLOW_TABLES);
        legacy.map(|spec| self.root.join(LEGACY).join(spec.name)).try_for_each(|path| super::remove(&path))
    }

    /// One rename, so that the link always names a whole set.
    fn point(&self, link: &str, set: &Path) -> Result<(), LoadError> {
        let (link, fresh) = (self.root.join(link), self.root.join(format!("{link}-next")));
        let name = set.file_name().expect("a set has a name");
        super::remove(&fresh)?;
        std::os::unix::fs::symlink(name, &fresh).map_err(|source| failed("create", &fresh, source))?;
        fs::rename(&fresh, &link).map_err(|source| failed("rename", &fresh, source))
    }
}

/// The set that a link names, or that of before there were links.
fn in_force(root: &Path, link: &str, spec: &MapSpec) -> Option<PathBuf> {
    let linked = fs::read_link(root.join(link)).ok().map(|name| root.join(name));
    let legacy = || Some(root.join(LEGACY));
    linked.or_else(legacy).filter(|set| set.join(spec.name).exists())
}

/// The layout in the name of a set of flow tables; the first one had no name.
pub(super) fn layout_of(set: &Path) -> Option<u32> {
    let name = set.file_name()?.to_str()?;
    name.strip_prefix("flows-").map_or(Some(1), |rest| rest.split('-').next()?.parse().ok())
}

fn remove_set(set: &Path) -> Result<(), LoadError> {
    match fs::remove_dir_all(set) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", set, source)),
        _ => Ok(()),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> LoadError {
    LoadError::Path { operation, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, u32), &str>) {
        match (text.parse::<TableRows>(), expected) {
            (Ok(row), Ok(wanted)) => assert_eq!((row.table, row.rows), wanted),
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    #[test]
    fn rows_of_tables() {
        check("FLOWS=1000", Ok(("FLOWS", 1_000)));
        check("peers=65536", Ok(("PEERS", 65_536)));
        check("FLOWS", Err("is not TABLE=ROWS"));
        check("FLOWS=0", Err("between 64 and"));
        check("POD=4096", Err("ROUTES, PEERS"));
    }

    #[test]
    fn another_size_is_another_set() {
        let plain = Sizes::default();
        let peers = Sizes::new(&[TableRows { table: "PEERS", rows: 1_000 }]);
        let flows = Sizes::new(&[TableRows { table: "FLOWS", rows: 1_000 }]);
        assert_ne!(plain.tables(), peers.tables());
        assert_eq!(plain.flows(LAYOUT), peers.flows(LAYOUT));
        assert_eq!(plain.tables(), flows.tables());
        assert_ne!(plain.flows(LAYOUT), flows.flows(LAYOUT));
        assert_eq!(layout_of(Path::new(&plain.flows(7))), Some(7));
        assert_eq!(layout_of(Path::new("maps")), Some(1));
    }
}
