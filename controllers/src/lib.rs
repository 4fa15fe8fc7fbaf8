//! Controllers and scheduler: pure functions from a snapshot of the cluster to actions.
//!
//! `fn reconcile(&Snapshot, &Key, now) -> Vec<Action>`, one file per controller, tested without a server. Only
//! [`runner`] has threads; it reaches the API server through one trait and knows no controller by name. Nothing here
//! reads a clock, draws a random number or keeps state between two calls, so a restart loses nothing.

#![cfg_attr(
    test,
    expect(
        clippy::needless_pass_by_value,
        clippy::cloned_ref_to_slice_refs,
        reason = "tables of cases read better so"
    )
)]

pub mod action;
pub mod controller;
pub mod runner;
pub mod settings;
pub mod snapshot;

mod daemonset;
mod deployment;
mod disruption;
mod disruption_budget;
mod endpoint_slice;
mod endpoints;
#[cfg(test)]
mod fixture;
mod garbage_collector;
mod names;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod ownership;
mod pod_gc;
mod quantity;
mod replicaset;
mod resource;
mod root_ca;
mod scheduler;
mod service_account;
mod service_pods;
mod taint_eviction;
mod template;
mod view;

use controller::Controller;

/// The table of controllers.
pub fn all() -> Vec<Controller> {
    vec![
        namespace::CONTROLLER,
        service_account::CONTROLLER,
        root_ca::CONTROLLER,
        node_ipam::CONTROLLER,
        node_lifecycle::CONTROLLER,
        taint_eviction::CONTROLLER,
        deployment::CONTROLLER,
        daemonset::CONTROLLER,
        replicaset::CONTROLLER,
        replicaset::LEGACY,
        endpoint_slice::CONTROLLER,
        endpoints::CONTROLLER,
        garbage_collector::CONTROLLER,
        pod_gc::CONTROLLER,
        disruption_budget::CONTROLLER,
        scheduler::CONTROLLER,
    ]
}
