//! The API server's own Service keeps its last backends: without one no controller, no other agent and no CNI plugin could
//! learn of the next, so a slice that is empty or gone for a moment (a restart, a takeover) must not cut everyone off.
use std::{borrow::Cow, collections::BTreeSet};

use abi::service::{ALIVE, Backend, ServiceId};
use objects::{Issue, Key};
use proxy::{BackendAddr, Output, slots::Slots};

/// The wanted services; `default/kubernetes` with what the kernel has if the objects give it nobody.
pub(super) fn keep<'a>(wanted: &'a Output, have: &Slots) -> Cow<'a, Output> {
    let mut wanted = Cow::Borrowed(wanted);
    let service = Key::new("default", "kubernetes");
    let ids: BTreeSet<ServiceId> =
        wanted.names.iter().filter(|(_, name)| name.service == service).map(|(id, _)| *id).collect();
    let left: Vec<_> =
        wanted.services.iter().filter(|(_, entry)| ids.contains(&entry.service) && entry.backends.is_empty()).collect();
    let mut rows = Vec::new();
    for (key, _) in left {
        let Some(row) = have.services.get(key) else { continue };
        let slots = row.first_slot..row.first_slot + row.count;
        let alive = |id: &u32| have.backends.get(id).filter(|row| row.flags & ALIVE != 0);
        let address = |row: &Backend| BackendAddr { addr: row.addr, port: u16::from_be(row.port), proto: row.proto };
        let backends = slots.filter_map(|slot| have.slots.get(&slot)).filter_map(alive).map(address);
        let backends: Vec<BackendAddr> = backends.collect();
        if !backends.is_empty() {
            rows.push((*key, backends));
        }
    }
    if rows.is_empty() {
        return wanted;
    }
    let changed = wanted.to_mut();
    let mut kept = BTreeSet::new();
    for (key, backends) in rows {
        kept.extend(backends.iter().copied());
        if let Some(entry) = changed.services.get_mut(&key) {
            entry.backends = backends;
        }
    }
    let message = format!("No endpoint is ready: the {} last known stay in force", kept.len());
    changed.issues.push(Issue { kind: "Service", key: service, reason: "EndpointsKept", message });
    for backend in kept {
        changed.backends.entry(backend).or_insert(None);
    }
    wanted
}
