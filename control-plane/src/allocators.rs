//! Cluster addresses and node ports of Services.
//!
//! What is taken is derived from the Services themselves when the server starts, and every write of a Service holds
//! one lock from its choice to its commit. So nothing is ever leaked or given twice, and nothing is stored twice.
//! Which families a Service has is `api::registry::family`'s to say; here each gets an address from its range.
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::path;
use api::registry::family::{self, Family};
use api::schema::Row;
use api::status::{FieldError, FieldErrorKind};
use ipnetwork::IpNetwork;
use rand::Rng;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::ranges::Ranges;
use crate::serve;
use crate::storage::cache::Cache;

const TABLE: &str = "services/specs";

/// What is taken, and by which Service.
#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<IpAddr, String>,
    /// Protocol and port: one port may serve TCP and UDP.
    ports: BTreeMap<(u16, String), String>,
}

/// The allocators of a cluster.
pub struct Allocators {
    ranges: Ranges,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

/// The lock of one Service's write.
pub struct Allocation {
    ranges: Ranges,
    ports: RangeInclusive<u16>,
    service: String,
    taken: OwnedMutexGuard<Taken>,
}

impl Allocators {
    /// Over the Services in `cache`.
    pub fn new(cache: &Cache, ranges: Ranges, ports: RangeInclusive<u16>) -> Self {
        let mut taken = Taken::default();
        for (path, entry) in &cache.snapshot(TABLE).objects {
            taken.take(path, &serve::parse(&entry.value, entry.revision));
        }
        Self { ranges, ports, taken: Arc::new(Mutex::new(taken)) }
    }

    /// The first address of the primary range: that of the `kubernetes` Service.
    pub fn first_address(&self) -> IpAddr {
        nth(self.ranges.primary(), 1)
    }

    /// The lock for a write of `path`, when it is a Service.
    pub async fn begin(&self, row: &Row, path: &str) -> Option<Allocation> {
        if row.storage_key != TABLE {
            return None;
        }
        let taken = Arc::clone(&self.taken).lock_owned().await;
        Some(Allocation { ranges: self.ranges.clone(), ports: self.ports.clone(), service: path.to_owned(), taken })
    }
}

impl Taken {
    fn take(&mut self, service: &str, object: &Value) {
        for address in addresses(object) {
            self.addresses.insert(address, service.to_owned());
        }
        for port in path::list(object, "spec.ports") {
            if let Some(number) = node_port(port, "nodePort") {
                self.ports.insert((number, protocol(port).to_owned()), service.to_owned());
            }
        }
        if let Some(number) = node_port(path::get(object, "spec"), "healthCheckNodePort") {
            self.ports.insert((number, "TCP".to_owned()), service.to_owned());
        }
    }

    fn release(&mut self, service: &str) {
        self.addresses.retain(|_, owner| owner != service);
        self.ports.retain(|_, owner| owner != service);
    }
}

fn addresses(object: &Value) -> Vec<IpAddr> {
    let list = path::list(object, "spec.clusterIPs").iter().filter_map(Value::as_str);
    let mut all: Vec<IpAddr> =
        list.chain([path::str(object, "spec.clusterIP")]).filter_map(|text| text.parse().ok()).collect();
    all.dedup();
    all
}

fn node_port(value: &Value, field: &str) -> Option<u16> {
    path::int(value, field).and_then(|number| u16::try_from(number).ok()).filter(|&number| number != 0)
}

fn protocol(port: &Value) -> &str {
    match path::str(port, "protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

impl Allocation {
    /// Fills in what the Service needs, or says why not.
    pub fn assign(&mut self, new: &mut Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = family::choose(new, old, &self.ranges.families());
        if !errors.is_empty() {
            return errors;
        }
        let kind = path::str(new, "spec.type").to_owned();
        if kind != "ExternalName" {
            errors.extend(self.assign_addresses(new, old));
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            errors.extend(self.assign_ports(new, old));
        } else {
            drop_ports(new, old);
        }
        errors
    }

    /// The write is durable: `None` when the Service is gone.
    pub fn commit(&mut self, object: Option<&Value>) {
        let service = self.service.clone();
        self.taken.release(&service);
        if let Some(object) = object {
            self.taken.take(&service, object);
        }
    }

    /// One address for each family; what the Service had stays, and is not looked at again.
    fn assign_addresses(&mut self, new: &mut Value, old: Option<&Value>) -> Option<FieldError> {
        let given = path::list(new, "spec.clusterIPs").to_vec();
        if given.first().is_some_and(|ip| ip == "None") {
            return None;
        }
        let held = old.map_or(0, |old| path::list(old, "spec.clusterIPs").len());
        let mut ips = given.clone();
        let families = path::list(new, "spec.ipFamilies").iter().filter_map(|name| Family::parse(name.as_str()?));
        for (i, family) in families.enumerate().skip(held) {
            if let Some(wanted) = given.get(i).and_then(Value::as_str) {
                if let Some(error) = self.refuse_address(wanted, family, &given) {
                    return Some(error);
                }
            } else if let Some(address) = self.free_address(family) {
                ips.push(address.to_string().into());
            } else {
                return Some(full("spec.clusterIPs", "failed to allocate a serviceIP: range is full"));
            }
        }
        if let Some(first) = ips.first().cloned() {
            let spec = path::entry(new, "spec");
            spec.insert("clusterIP".to_owned(), first);
            spec.insert("clusterIPs".to_owned(), ips.into());
        }
        None
    }

    /// Why the Service may not have the address that it wants.
    fn refuse_address(&self, wanted: &str, family: Family, given: &[Value]) -> Option<FieldError> {
        let invalid = |why: String| {
            let text = format!("failed to allocate IP {wanted}: {why}");
            Some(FieldError::invalid("spec.clusterIPs", given.to_vec(), text))
        };
        let (Some(range), Ok(address)) = (self.ranges.of(family), wanted.parse()) else {
            return invalid(format!("{family} is not configured on this cluster"));
        };
        if self.taken.addresses.get(&address).is_some_and(|owner| *owner != self.service) {
            return invalid("provided IP is already allocated".to_owned());
        }
        if range.contains(address) && (1..=last(range)).contains(&offset(range, address)) {
            return None;
        }
        invalid(format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"))
    }

    /// From the upper part of the range, as upstream, so that chosen addresses in the lower part stay free.
    fn free_address(&self, family: Family) -> Option<IpAddr> {
        let range = self.ranges.of(family)?;
        // As far as anybody counts: a larger range is not tried to its end.
        let last = last(range).min(1 << 20);
        let lower = ((last + 2) / 16).clamp(16, 256).min(last / 2).max(1);
        let start = rand::rng().random_range(lower..=last);
        let upper = (start..=last).chain(lower..start);
        upper.chain(1..lower).map(|n| nth(range, n)).find(|address| !self.taken.addresses.contains_key(address))
    }

    fn assign_ports(&mut self, new: &mut Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut chosen: Vec<(u16, String)> = Vec::new();
        let ports = path::list(new, "spec.ports").to_vec();
        let mut assigned = ports.clone();
        for (index, port) in ports.iter().enumerate() {
            let protocol = protocol(port).to_owned();
            let number = match node_port(port, "nodePort").or_else(|| kept_port(port, old)) {
                Some(number) => {
                    let field = format!("spec.ports[{index}].nodePort");
                    errors.extend(self.refuse_port(&field, number, &protocol));
                    Some(number)
                }
                // One Service's TCP and UDP on one port share the node port too.
                None => self.shared_port(&ports[..index], &assigned, port).or_else(|| self.free_port(&chosen)),
            };
            let Some(number) = number else {
                let field = format!("spec.ports[{index}].nodePort");
                errors.push(full(&field, "failed to allocate a nodePort: range is full"));
                continue;
            };
            chosen.push((number, protocol));
            path::object(&mut assigned[index]).insert("nodePort".to_owned(), number.into());
        }
        if !assigned.is_empty() {
            path::entry(new, "spec").insert("ports".to_owned(), assigned.into());
        }
        errors
    }

    fn refuse_port(&self, field: &str, number: u16, protocol: &str) -> Option<FieldError> {
        let owner = self.taken.ports.get(&(number, protocol.to_owned()));
        if owner.is_some_and(|owner| *owner == self.service) {
            return None;
        }
        if owner.is_some() {
            return Some(FieldError::invalid(field, number, "provided port is already allocated"));
        }
        if self.ports.contains(&number) {
            return None;
        }
        let (first, last) = self.ports.clone().into_inner();
        Some(FieldError::invalid(
            field,
            number,
            format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"),
        ))
    }

    fn shared_port(&self, before: &[Value], assigned: &[Value], port: &Value) -> Option<u16> {
        let same =
            |other: &Value| path::int(other, "port") == path::int(port, "port") && protocol(other) != protocol(port);
        let number = node_port(&assigned[before.iter().position(same)?], "nodePort")?;
        (!self.taken.ports.contains_key(&(number, protocol(port).to_owned()))).then_some(number)
    }

    fn free_port(&self, chosen: &[(u16, String)]) -> Option<u16> {
        let (first, last) = self.ports.clone().into_inner();
        let start = rand::rng().random_range(self.ports.clone());
        (start..=last).chain(first..start).find(|&number| {
            self.taken.ports.range((number, String::new())..).next().is_none_or(|((taken, _), _)| *taken != number)
                && !chosen.iter().any(|(other, _)| *other == number)
        })
    }
}

/// The node port that the same port had before.
fn kept_port(port: &Value, old: Option<&Value>) -> Option<u16> {
    let same =
        |other: &&Value| path::int(other, "port") == path::int(port, "port") && protocol(other) == protocol(port);
    node_port(path::list(old?, "spec.ports").iter().find(same)?, "nodePort")
}

/// A Service that needs no node ports any longer gives back those that it does not name anew.
fn drop_ports(new: &mut Value, old: Option<&Value>) {
    let Some(old) = old.filter(|old| matches!(path::str(old, "spec.type"), "NodePort" | "LoadBalancer")) else {
        return;
    };
    let held: Vec<i64> = path::list(old, "spec.ports").iter().filter_map(|port| path::int(port, "nodePort")).collect();
    let mut ports = path::list(new, "spec.ports").to_vec();
    for port in &mut ports {
        if path::int(port, "nodePort").is_some_and(|number| held.contains(&number)) {
            path::object(port).shift_remove("nodePort");
        }
    }
    if !ports.is_empty() {
        path::entry(new, "spec").insert("ports".to_owned(), ports.into());
    }
}

fn full(field: &str, detail: &str) -> FieldError {
    FieldError {
        kind: FieldErrorKind::Internal,
        field: field.to_owned(),
        value: Value::Null,
        detail: detail.to_owned(),
    }
}

fn nth(range: IpNetwork, n: u128) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::try_from(n).unwrap_or(u32::MAX)).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + n).into()),
    }
}

/// Which of the range's addresses this is.
fn offset(range: IpNetwork, address: IpAddr) -> u128 {
    let number = |ip| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    number(address).saturating_sub(number(range.network()))
}

/// The last address that may be given: all but the network's own and, in IPv4, the broadcast address.
fn last(range: IpNetwork) -> u128 {
    match range {
        IpNetwork::V4(range) => u128::from(range.size()).saturating_sub(2),
        IpNetwork::V6(range) => range.size().saturating_sub(1),
    }
}

#[cfg(test)]
mod tests;
