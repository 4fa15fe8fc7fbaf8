//! Controllers and scheduler: pure functions from a snapshot of the cluster to actions.
//!
//! `fn reconcile(&Snapshot, &Key, now) -> Vec<Action>`, one file per controller, tested without a server. Only
//! [`runner`] has threads; it reaches the API server through one trait and knows no controller by name. Nothing here
//! reads a clock, draws a random number or keeps state between two calls, so a restart loses nothing.

pub mod action;
pub mod controller;
pub mod runner;
pub mod settings;
pub mod snapshot;

mod quantity;
mod resource;
mod scheduler;
mod view;

use controller::Controller;

/// The table of controllers.
pub fn all() -> Vec<Controller> {
    vec![]
}
