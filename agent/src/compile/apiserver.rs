//! The API server's own Service keeps its last backends: without one no controller, no other agent and no CNI plugin could
//! learn of the next, so a slice that is empty or gone for a moment (a restart, a takeover) must not cut everyone off.
use std::collections::BTreeSet;

use abi::service::{ALIVE, ServiceId};
use objects::{Issue, Key};
use proxy::{BackendAddr, Output, slots::Slots};

/// Gives `default/kubernetes` what the kernel has if the objects give it nobody.
pub(super) fn keep(wanted: &mut Output, have: &Slots) {
    let service = Key::new("default", "kubernetes");
    let ids: BTreeSet<ServiceId> =
        wanted.names.iter().filter(|(_, name)| name.service == service).map(|(id, _)| *id).collect();
    let mut kept = BTreeSet::new();
    for (key, entry) in &mut wanted.services {
        if !ids.contains(&entry.service) || !entry.backends.is_empty() {
            continue;
        }
        let Some(row) = have.services.get(key) else { continue };
        let slots = row.first_slot..row.first_slot + row.count;
        let rows =
            slots.filter_map(|slot| have.backends.get(have.slots.get(&slot)?)).filter(|row| row.flags & ALIVE != 0);
        entry.backends =
            rows.map(|row| BackendAddr { addr: row.addr, port: u16::from_be(row.port), proto: row.proto }).collect();
        kept.extend(entry.backends.iter().copied());
    }
    if kept.is_empty() {
        return;
    }
    let message = format!("No endpoint is ready: the {} last known stay in force", kept.len());
    wanted.issues.push(Issue { kind: "Service", key: service, reason: "EndpointsKept", message });
    for backend in kept {
        wanted.backends.entry(backend).or_insert(None);
    }
}
