//! The compiled tables as plain sorted data: what `compile` makes, `diff` compares and `apply` writes.
//!
//! One map per compiled table of `abi`; flows, counters and events are the datapath's own and not here. Rows also come
//! and go as raw bytes, because that is what the kernel holds; the macro below is the only place that knows which type
//! belongs to which table.
use std::collections::BTreeMap;

use abi::{
    Addr,
    addr::Prefix,
    config::Config,
    map::{self, MapSpec},
    peer::Class,
    pod::{Pod, PodId},
    policy::{PolicyKey, PolicyValue},
    route::{Node, NodeId, Route},
    service::{Backend, BackendId, Service, ServiceKey},
};
use zerocopy::{FromBytes, IntoBytes};

/// A row as the kernel holds it: key and value.
pub type Row = (Box<[u8]>, Box<[u8]>);

macro_rules! tables {
    ($($table:ident $field:ident $spec:ident $key:ty => $value:ty;)*) => {
        /// A compiled table.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Table { $(#[doc = concat!("`", stringify!($spec), "`")] $table,)* }

        impl Table {
            /// Every compiled table.
            pub const ALL: &'static [Table] = &[$(Table::$table,)*];

            /// Name, kind and size.
            pub const fn spec(self) -> &'static MapSpec {
                match self { $(Table::$table => &map::$spec,)* }
            }
        }

        /// Everything that the agent writes into the kernel for the datapath to read.
        #[derive(Clone, PartialEq, Eq, Default, Debug)]
        pub struct Tables { $(#[doc = concat!("`", stringify!($spec), "`")] pub $field: BTreeMap<$key, $value>,)* }

        impl Tables {
            /// Rows of a table, in the order of their keys.
            pub fn rows(&self, table: Table) -> Vec<Row> {
                match table { $(Table::$table => self.$field.iter().map(|(k, v)| row(k, v)).collect(),)* }
            }

            /// How many rows a table has.
            pub fn len(&self, table: Table) -> usize {
                match table { $(Table::$table => self.$field.len(),)* }
            }

            /// Takes a table's rows from `other`, where they differ; how many did. Rows of zeros count for nothing: arrays
            /// have them everywhere.
            pub fn correct(&mut self, table: Table, other: Tables) -> usize {
                match table { $(Table::$table => correct(&mut self.$field, other.$field),)* }
            }

            /// Sets a row from bytes; false if their sizes are not the table's.
            pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> bool {
                match table {
                    $(Table::$table => match (<$key>::read_from_bytes(key), <$value>::read_from_bytes(value)) {
                        (Ok(key), Ok(value)) => { self.$field.insert(key, value); true }
                        _ => false,
                    },)*
                }
            }

            /// Removes a row; false if it was not there.
            pub fn remove(&mut self, table: Table, key: &[u8]) -> bool {
                match table {
                    $(Table::$table => <$key>::read_from_bytes(key).is_ok_and(|key| self.$field.remove(&key).is_some()),)*
                }
            }
        }
    };
}

tables! {
    Pods pods PODS Addr => PodId;
    Pod pod POD u32 => Pod;
    Routes routes ROUTES Prefix => Route;
    Nodes nodes NODES NodeId => Node;
    Peers peers PEERS Addr => Class;
    Cidrs cidrs CIDRS Prefix => Class;
    Policy policy POLICY PolicyKey => PolicyValue;
    Services services SERVICES ServiceKey => Service;
    Slots slots SLOTS u32 => BackendId;
    Backends backends BACKENDS BackendId => Backend;
    Config config CONFIG u32 => Config;
}

fn correct<K: Ord, V: PartialEq + IntoBytes + zerocopy::Immutable>(
    have: &mut BTreeMap<K, V>,
    other: BTreeMap<K, V>,
) -> usize {
    let zero = |value: &V| value.as_bytes().iter().all(|byte| *byte == 0);
    let more = other.iter().filter(|(key, value)| !zero(value) && have.get(key) != Some(value)).count();
    let gone = have.iter().filter(|(key, value)| !zero(value) && !other.contains_key(key)).count();
    if more + gone > 0 {
        *have = other;
    }
    more + gone
}

/// A typed row as bytes.
pub fn row<K: IntoBytes + zerocopy::Immutable, V: IntoBytes + zerocopy::Immutable>(key: &K, value: &V) -> Row {
    (key.as_bytes().into(), value.as_bytes().into())
}

impl Tables {
    /// The policy epoch in force.
    pub fn epoch(&self) -> u64 {
        self.config.get(&0).map_or(0, |config| config.epoch)
    }

    /// The class that the datapath finds for an address: `PEERS`, else the longest prefix of `CIDRS`.
    pub fn class_of(&self, addr: Addr) -> Option<Class> {
        self.peers.get(&addr).copied().or_else(|| self.cidr_class(Prefix::host(addr)))
    }

    /// The class of the longest prefix of `CIDRS` that holds all of `prefix`, itself included.
    pub fn cidr_class(&self, prefix: Prefix) -> Option<Class> {
        // At most 129 look-ups, and only for prefixes that policies of this node name.
        (0..=prefix.prefix_len).rev().find_map(|len| {
            let key = Prefix { prefix_len: len, addr: masked(prefix.addr, len) };
            self.cidrs.get(&key).copied()
        })
    }
}

/// The first `len` bits of an address, the rest zero.
pub fn masked(addr: Addr, len: u32) -> Addr {
    let bits = u128::from_be_bytes(addr.bytes());
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - len.min(128)) };
    Addr::from_bytes((bits & mask).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str, len: u32) -> Prefix {
        let ip: std::net::IpAddr = text.parse().expect("address");
        Prefix { prefix_len: 96 + len, addr: ip.into() }
    }

    #[test]
    fn the_longest_prefix_wins_and_an_exact_row_beats_it() {
        let mut tables = Tables::default();
        tables.cidrs.insert(prefix("10.0.0.0", 8), 1);
        tables.cidrs.insert(prefix("10.1.0.0", 16), 2);
        let addr = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().expect("address"));
        tables.peers.insert(addr("10.1.0.9"), 3);
        assert_eq!(tables.class_of(addr("10.1.0.9")), Some(3));
        assert_eq!(tables.class_of(addr("10.1.0.8")), Some(2));
        assert_eq!(tables.class_of(addr("10.2.0.8")), Some(1));
        assert_eq!(tables.class_of(addr("11.2.0.8")), None);
    }

    #[test]
    fn rows_go_to_bytes_and_back() {
        let mut tables = Tables::default();
        tables.cidrs.insert(prefix("10.0.0.0", 8), 7);
        tables.backends.insert(4, Backend { port: 80, generation: 2, ..Backend::default() });
        let mut copy = Tables::default();
        for table in Table::ALL {
            for (key, value) in tables.rows(*table) {
                assert!(copy.put(*table, &key, &value));
            }
        }
        assert_eq!(copy, tables);
        assert!(!copy.put(Table::Pods, &[1], &[2]));
    }

    #[test]
    fn a_table_is_set_right_where_it_differs() {
        let of = |rows: &[(u32, u32)]| Tables { slots: rows.iter().copied().collect(), ..Tables::default() };
        let mut have = of(&[(1, 7), (2, 8), (3, 0)]);
        assert_eq!(have.correct(Table::Slots, of(&[(1, 7), (2, 8)])), 0, "a row of zeros is no row");
        assert_eq!(have.correct(Table::Slots, of(&[(1, 7), (2, 9), (4, 1)])), 2);
        assert_eq!(have, of(&[(1, 7), (2, 9), (4, 1)]));
        assert_eq!(have.correct(Table::Slots, of(&[])), 3);
        assert_eq!(have.correct(Table::Pods, of(&[(1, 1)])), 0, "another table is none of this one's");
    }
}
