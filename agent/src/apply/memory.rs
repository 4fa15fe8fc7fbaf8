//! Tables in memory: the store of tests, with faults by default.
use std::io;

use super::{MapStore, StoreError};
use crate::tables::{Row, Table, Tables};

/// A store that fails some of its writes, always the same ones for the same seed.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// What it holds.
    pub tables: Tables,
    /// Of 100 writes, so many fail.
    pub fail_percent: u64,
    /// Barriers so far.
    pub barriers: usize,
    state: u64,
}

impl MemoryStore {
    /// A store of these rows of which `fail_percent` of 100 writes fail.
    pub fn new(tables: Tables, fail_percent: u64, seed: u64) -> MemoryStore {
        MemoryStore { tables, fail_percent, barriers: 0, state: seed }
    }

    fn may_fail(&mut self, operation: &'static str, table: Table) -> Result<(), StoreError> {
        // SplitMix64: tests need a repeatable sequence, not a good one.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if (z ^ (z >> 31)) % 100 < self.fail_percent {
            let source = io::Error::from(io::ErrorKind::StorageFull);
            return Err(StoreError { operation, table: table.spec().name, source });
        }
        Ok(())
    }
}

impl MapStore for MemoryStore {
    fn dump(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        Ok(self.tables.rows(table))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.may_fail("write", table)?;
        assert!(self.tables.put(table, key, value), "a row of the wrong size for {table:?}");
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.may_fail("delete from", table)?;
        self.tables.remove(table, key);
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), StoreError> {
        self.barriers += 1;
        Ok(())
    }
}
