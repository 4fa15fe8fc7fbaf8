//! Ops → kernel: the only writer of the compiled tables.
//!
//! `MapStore` is the seam: the kernel's maps in production, memory in tests. `apply` has no choices of its own: it runs
//! what `diff` decided, in that order, and keeps a mirror of what it wrote, so that the next round compares with memory
//! and not with the kernel. After a failure the mirror is what was written so far, and the next round goes on from there.
use crate::tables::{Row, Table, Tables};

pub mod grace;
pub mod kernel;
pub mod memory;
pub mod syscall;

/// One step of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Set a row.
    Put(Table, Row),
    /// Remove a row. In an array: zero it.
    Delete(Table, Box<[u8]>),
    /// Wait until no packet is still judged by what the ops before replaced.
    Barrier,
}

/// Something that holds the tables.
pub trait MapStore {
    /// Every row of a table; in arrays the rows that are not all zero.
    fn dump(&self, table: Table) -> Result<Vec<Row>, StoreError>;
    /// Sets a row.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;
    /// Removes a row; it is no error if it is not there.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError>;
    /// Sets many rows, in order. On an error some may have been written: how many from the start is in the answer.
    fn batch(&mut self, table: Table, rows: &[&Row]) -> Result<(), (usize, StoreError)> {
        for (done, (key, value)) in rows.iter().map(|row| (&row.0, &row.1)).enumerate() {
            self.put(table, key, value).map_err(|error| (done, error))?;
        }
        Ok(())
    }
    /// Returns when every packet that was under way has been judged.
    fn barrier(&mut self) -> Result<(), StoreError>;
}

/// A table could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {table}")]
pub struct StoreError {
    /// "read", "write", "delete from", "wait for readers of".
    pub operation: &'static str,
    /// The table.
    pub table: &'static str,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}

/// Reads every compiled table.
///
/// # Errors
/// The first table that cannot be read.
pub fn read(store: &impl MapStore) -> Result<Tables, StoreError> {
    let mut tables = Tables::default();
    Table::ALL.iter().try_for_each(|table| add(store, *table, &mut tables))?;
    Ok(tables)
}

/// Reads one compiled table; the others are empty.
///
/// # Errors
/// It cannot be read.
pub fn read_one(store: &impl MapStore, table: Table) -> Result<Tables, StoreError> {
    let mut tables = Tables::default();
    add(store, table, &mut tables)?;
    Ok(tables)
}

fn add(store: &impl MapStore, table: Table, tables: &mut Tables) -> Result<(), StoreError> {
    for (key, value) in store.dump(table)? {
        tables.put(table, &key, &value);
    }
    Ok(())
}

/// Runs `ops`, mirroring each in `have` as soon as it is done. Ops of one table that follow each other go as a batch.
///
/// # Errors
/// The first op that fails; everything before it is done and in `have`, nothing after it is.
pub fn apply(store: &mut impl MapStore, have: &mut Tables, ops: &[Op]) -> Result<(), StoreError> {
    let mut rest = ops;
    while let Some(op) = rest.first() {
        match op {
            Op::Barrier => store.barrier()?,
            Op::Delete(table, key) => {
                store.delete(*table, key)?;
                have.remove(*table, key);
            }
            Op::Put(table, _) => {
                let rows: Vec<&Row> = rest
                    .iter()
                    .map_while(|op| match op {
                        Op::Put(same, row) if same == table => Some(row),
                        _ => None,
                    })
                    .collect();
                let (done, result) = match store.batch(*table, &rows) {
                    Ok(()) => (rows.len(), Ok(())),
                    Err((done, error)) => (done, Err(error)),
                };
                for (key, value) in rows[..done].iter().map(|row| (&row.0, &row.1)) {
                    have.put(*table, key, value);
                }
                result?;
                rest = &rest[rows.len()..];
                continue;
            }
        }
        rest = &rest[1..];
    }
    Ok(())
}
