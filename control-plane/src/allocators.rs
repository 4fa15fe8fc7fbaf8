//! Cluster addresses and node ports of Services.
//!
//! What is taken is derived from the Services themselves when the server starts, and every write of a Service holds
//! one lock from its choice to its commit. So nothing is ever leaked or given twice, and nothing is stored twice.
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::path;
use api::schema::Row;
use api::status::{FieldError, FieldErrorKind};
use ipnetwork::IpNetwork;
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

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
    range: IpNetwork,
    ports: RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

/// The lock of one Service's write.
pub struct Allocation {
    range: IpNetwork,
    ports: RangeInclusive<u16>,
    service: String,
    taken: OwnedMutexGuard<Taken>,
}

impl Allocators {
    /// Over the Services in `cache`.
    pub fn new(cache: &Cache, range: IpNetwork, ports: RangeInclusive<u16>) -> Self {
        let mut taken = Taken::default();
        for (path, entry) in &cache.snapshot(TABLE).objects {
            taken.take(path, &serve::parse(&entry.value, entry.revision));
        }
        Self { range, ports, taken: Arc::new(Mutex::new(taken)) }
    }

    /// The first address of the range: that of the `kubernetes` Service.
    pub fn first_address(&self) -> IpAddr {
        nth(&self.range, 1)
    }

    /// The lock for a write of `path`, when it is a Service.
    pub async fn begin(&self, row: &Row, path: &str) -> Option<Allocation> {
        if row.storage_key != TABLE {
            return None;
        }
        let taken = Arc::clone(&self.taken).lock_owned().await;
        Some(Allocation { range: self.range, ports: self.ports.clone(), service: path.to_owned(), taken })
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
        let mut errors = Vec::new();
        let kind = path::str(new, "spec.type").to_owned();
        if kind == "ExternalName" {
            release_addresses(new, old);
        } else {
            errors.extend(self.assign_address(new, old));
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

    fn assign_address(&mut self, new: &mut Value, old: Option<&Value>) -> Option<FieldError> {
        let mut wanted = path::str(new, "spec.clusterIP").to_owned();
        if wanted.is_empty() {
            wanted = path::list(new, "spec.clusterIPs").first().and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        // An update that leaves the address out keeps it.
        if wanted.is_empty()
            && let Some(old) = old
        {
            wanted = path::str(old, "spec.clusterIP").to_owned();
        }
        if wanted == "None" {
            set_address(new, "None", &self.range);
            return None;
        }
        let address = if wanted.is_empty() { self.free_address() } else { wanted.parse().ok() };
        let invalid = |text: String| Some(FieldError::invalid("spec.clusterIPs", json!([wanted]), text));
        let Some(address) = address else {
            return if wanted.is_empty() {
                Some(full("spec.clusterIPs", "failed to allocate a serviceIP: range is full"))
            } else {
                invalid(format!("must be empty, 'None', or a valid IP address, such as {}", nth(&self.range, 10)))
            };
        };
        if self.taken.addresses.get(&address).is_some_and(|owner| *owner != self.service) {
            return invalid(format!("failed to allocate IP {address}: provided IP is already allocated"));
        }
        if !self.range.contains(address) || address == self.range.network() || address == broadcast(&self.range) {
            return invalid(format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
                self.range
            ));
        }
        set_address(new, &address.to_string(), &self.range);
        None
    }

    /// From the upper part of the range, as upstream, so that chosen addresses in the lower part stay free.
    fn free_address(&self) -> Option<IpAddr> {
        let size = size(&self.range);
        let lower = (size / 16).clamp(16, 256).min(size / 2);
        let usable = size.saturating_sub(1);
        let start = rand::rng().random_range(lower..usable.max(lower + 1));
        let upper = (start..usable).chain(lower..start);
        upper.chain(1..lower).map(|n| nth(&self.range, n)).find(|address| !self.taken.addresses.contains_key(address))
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

fn release_addresses(new: &mut Value, old: Option<&Value>) {
    let unchanged = old.is_some_and(|old| path::str(old, "spec.clusterIP") == path::str(new, "spec.clusterIP"));
    if unchanged {
        let spec = path::entry(new, "spec");
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.shift_remove(key);
        }
    }
}

fn set_address(object: &mut Value, address: &str, range: &IpNetwork) {
    let spec = path::entry(object, "spec");
    spec.insert("clusterIP".to_owned(), address.into());
    spec.insert("clusterIPs".to_owned(), json!([address]));
    let family = if range.is_ipv4() { "IPv4" } else { "IPv6" };
    spec.entry("ipFamilies").or_insert_with(|| json!([family]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
}

fn full(field: &str, detail: &str) -> FieldError {
    FieldError {
        kind: FieldErrorKind::Internal,
        field: field.to_owned(),
        value: Value::Null,
        detail: detail.to_owned(),
    }
}

fn nth(range: &IpNetwork, n: u64) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base) + u32::try_from(n).unwrap_or(u32::MAX)).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base) + u128::from(n)).into()),
    }
}

/// How many addresses, as far as anybody counts.
fn size(range: &IpNetwork) -> u64 {
    let bits = if range.is_ipv4() { 32 } else { 128 } - range.prefix();
    1 << bits.min(20)
}

fn broadcast(range: &IpNetwork) -> IpAddr {
    match range {
        IpNetwork::V4(range) => IpAddr::V4(range.broadcast()),
        IpNetwork::V6(range) => IpAddr::V6(range.broadcast()),
    }
}

#[cfg(test)]
mod tests;
