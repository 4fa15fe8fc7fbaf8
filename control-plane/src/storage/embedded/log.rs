//! The embedded store's file: its tables, how keys and values are laid out, and how the log is read back.
//!
//! `objects`: table, 0, path → revision (u64 LE), expiry in seconds since 1970 (u64 LE, 0 is never), bytes.
//! `log`: revision → previous revision (u64 LE, 0 is none), length of the key (u32 LE), key, previous bytes. The value
//! after a change is the `previous` of the key's next change, or the object as it is now; so no value is kept twice.
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};

use crate::storage::{Change, Error, Key, Result, Stored};

pub(super) const OBJECTS: TableDefinition<'_, &'static [u8], &'static [u8]> = TableDefinition::new("objects");
pub(super) const LOG: TableDefinition<'_, u64, &'static [u8]> = TableDefinition::new("log");
pub(super) const META: TableDefinition<'_, &'static str, u64> = TableDefinition::new("meta");

/// The newest revision.
pub(super) const NEWEST: &str = "newest";
/// The log reaches back to changes after this revision.
pub(super) const OLDEST: &str = "oldest";
const FORMAT: &str = "format";
const KNOWN_FORMAT: u64 = 1;

/// A value of `objects`.
pub(super) struct Object {
    pub(super) revision: u64,
    pub(super) expiry: u64,
    pub(super) value: Bytes,
}

impl Object {
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self { revision: number(bytes, 0), expiry: number(bytes, 8), value: Bytes::copy_from_slice(&bytes[16..]) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.value.len());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.expiry.to_le_bytes());
        bytes.extend_from_slice(&self.value);
        bytes
    }

    pub(super) fn stored(self, key: Key) -> Stored {
        Stored { key, revision: self.revision, value: self.value }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are an u64"))
}

pub(super) fn encode_key(key: &Key) -> Vec<u8> {
    [key.table.as_bytes(), &[0], key.path.as_bytes()].concat()
}

pub(super) fn decode_key(bytes: &[u8]) -> Key {
    let text = std::str::from_utf8(bytes).expect("keys are written from strings");
    let (table, path) = text.split_once('\0').expect("keys are written with a zero");
    Key::new(table, path)
}

pub(super) fn encode_entry(change: &Change) -> Vec<u8> {
    let key = encode_key(&change.key);
    let (revision, value) = match &change.previous {
        Some((revision, value)) => (*revision, &value[..]),
        None => (0, &[][..]),
    };
    let length = u32::try_from(key.len()).expect("keys are short");
    [&revision.to_le_bytes()[..], &length.to_le_bytes(), &key, value].concat()
}

fn decode_entry(bytes: &[u8]) -> (Key, Option<(u64, Bytes)>) {
    let revision = number(bytes, 0);
    let length = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes are an u32")) as usize;
    let key = decode_key(&bytes[12..12 + length]);
    (key, (revision != 0).then(|| (revision, Bytes::copy_from_slice(&bytes[12 + length..]))))
}

pub(super) fn failed(operation: &'static str, source: impl Into<redb::Error>) -> Error {
    Error::Database { operation, source: Box::new(source.into()) }
}

/// Makes the tables of a new file, checks the format of an old one; returns the newest and the oldest revision.
pub(super) fn initialise(database: &Database) -> Result<(u64, u64)> {
    let transaction = database.begin_write().map_err(|e| failed("begin a commit", e))?;
    let counters = {
        transaction.open_table(OBJECTS).map_err(|e| failed("open the objects", e))?;
        transaction.open_table(LOG).map_err(|e| failed("open the log", e))?;
        let mut meta = transaction.open_table(META).map_err(|e| failed("open the counters", e))?;
        let mut counter = |name: &str, initial: u64| -> Result<u64> {
            let found = meta.get(name).map_err(|e| failed("read a counter", e))?.map(|value| value.value());
            if found.is_none() {
                meta.insert(name, initial).map_err(|e| failed("write a counter", e))?;
            }
            Ok(found.unwrap_or(initial))
        };
        let found = counter(FORMAT, KNOWN_FORMAT)?;
        if found != KNOWN_FORMAT {
            return Err(Error::Format { found, known: KNOWN_FORMAT });
        }
        // Revision 0 means "any" to clients, so the first object gets 2, as in etcd.
        (counter(NEWEST, 1)?, counter(OLDEST, 1)?)
    };
    transaction.commit().map_err(|e| failed("commit", e))?;
    Ok(counters)
}

pub(super) fn counter(read: &ReadTransaction, name: &str) -> Result<u64> {
    let meta = read.open_table(META).map_err(|e| failed("open the counters", e))?;
    Ok(meta.get(name).map_err(|e| failed("read a counter", e))?.map_or(0, |value| value.value()))
}

/// What ends by itself, and when.
pub(super) fn expiring(database: &Database) -> Result<BTreeSet<(u64, Key)>> {
    let read = database.begin_read().map_err(|e| failed("begin a read", e))?;
    let objects = read.open_table(OBJECTS).map_err(|e| failed("open the objects", e))?;
    let mut expiring = BTreeSet::new();
    for item in objects.iter().map_err(|e| failed("list the objects", e))? {
        let (key, value) = item.map_err(|e| failed("read an object", e))?;
        let expiry = number(value.value(), 8);
        if expiry != 0 {
            expiring.insert((expiry, decode_key(key.value())));
        }
    }
    Ok(expiring)
}

/// The changes after `from`, oldest first: the log is read backwards, from the objects as they are now.
pub(super) fn since(database: &Database, from: u64) -> Result<Vec<Change>> {
    let read = database.begin_read().map_err(|e| failed("begin a read", e))?;
    let objects = read.open_table(OBJECTS).map_err(|e| failed("open the objects", e))?;
    let entries = read.open_table(LOG).map_err(|e| failed("open the log", e))?;
    let mut after: HashMap<Key, Option<Bytes>> = HashMap::new();
    let mut changes = Vec::new();
    for item in entries.range(from + 1..).map_err(|e| failed("read the log", e))?.rev() {
        let (revision, entry) = item.map_err(|e| failed("read the log", e))?;
        let (key, previous) = decode_entry(entry.value());
        let before = previous.as_ref().map(|(_, value)| value.clone());
        let value = match after.insert(key.clone(), before) {
            Some(value) => value,
            None => objects
                .get(&encode_key(&key)[..])
                .map_err(|e| failed("read an object", e))?
                .map(|value| Object::decode(value.value()).value),
        };
        changes.push(Change { revision: revision.value(), key, value, previous });
    }
    changes.reverse();
    Ok(changes)
}

/// Removes the log up to and including `revision`.
pub(super) fn forget(database: &Database, revision: u64) -> Result<()> {
    let transaction = database.begin_write().map_err(|e| failed("begin a compaction", e))?;
    {
        let mut entries = transaction.open_table(LOG).map_err(|e| failed("open the log", e))?;
        entries.retain_in(..=revision, |_, _| false).map_err(|e| failed("shorten the log", e))?;
        let mut meta = transaction.open_table(META).map_err(|e| failed("open the counters", e))?;
        meta.insert(OLDEST, revision).map_err(|e| failed("write a counter", e))?;
    }
    transaction.commit().map_err(|e| failed("commit a compaction", e))
}
