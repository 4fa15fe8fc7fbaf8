//! The kernel's maps as a `MapStore`, and the few reads of maps that are not compiled tables.
use std::{collections::BTreeMap, io};

use abi::map::MapKind;

use super::{MapStore, StoreError, grace::wait_for_programs, syscall::RawMap};
use crate::tables::{Row, Table};

/// The pinned maps of this node, by table.
#[derive(Debug)]
pub struct AyaStore {
    maps: BTreeMap<Table, RawMap>,
}

impl AyaStore {
    /// A store over open maps; every table must be there.
    pub fn new(maps: BTreeMap<Table, RawMap>) -> AyaStore {
        assert!(Table::ALL.iter().all(|table| maps.contains_key(table)), "the loader opens every table");
        AyaStore { maps }
    }

    /// Rows that fit into a table.
    pub fn capacity(&self, table: Table) -> u32 {
        self.maps[&table].max_entries()
    }
}

impl MapStore for AyaStore {
    fn dump(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let array = table.spec().kind == MapKind::Array;
        self.maps[&table]
            .for_each(|key, value| {
                if !array || value.iter().any(|byte| *byte != 0) {
                    rows.push((key.into(), value.into()));
                }
            })
            .map_err(|source| failed("read", table, source))?;
        Ok(rows)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.maps[&table].put(key, value).map_err(|source| failed("write", table, source))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.maps[&table].delete(key).map_err(|source| failed("delete from", table, source))
    }

    fn batch(&mut self, table: Table, rows: &[&Row]) -> Result<(), (usize, StoreError)> {
        if let [(key, value)] = rows {
            return self.put(table, key, value).map_err(|error| (0, error));
        }
        self.maps[&table]
            .put_batch(rows.iter().map(|(key, value)| (&**key, &**value)))
            .map_err(|(done, source)| (done, failed("write", table, source)))
    }

    fn barrier(&mut self) -> Result<(), StoreError> {
        wait_for_programs().map_err(|source| StoreError {
            operation: "wait for readers of",
            table: "the tables",
            source,
        })
    }
}

fn failed(operation: &'static str, table: Table, source: io::Error) -> StoreError {
    StoreError { operation, table: table.spec().name, source }
}
