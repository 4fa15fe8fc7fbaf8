//! From the programs and maps in force to those of this start, under traffic.
//!
//! Compiled tables of another layout are a set of their own, written in full before any hook reads it; the programs of
//! before keep theirs. Flow tables of another layout or size cannot be written from objects: first come programs that
//! write both sets and take from the old one what theirs does not know, so that it does not matter which hook runs which
//! programs. When no hook runs the old ones any more, what is left is copied, and programs that know only the new set
//! replace them. With `--hand-over` programs stay that write the tables of an earlier version too.
use std::sync::{Mutex, PoisonError};

use abi::config::Settings;

use crate::{
    Args,
    args::Attach,
    load::{
        self, LoadError, Programs, carry,
        pins::{Pins, Sizes},
    },
};

/// A start's way from what is in force.
pub(crate) struct Takeover {
    /// The sets of maps.
    pub(crate) pins: Pins,
    settings: Settings,
    attach: Attach,
}

/// Chooses the sets, loads the first programs, and carries over what no object tells.
///
/// # Errors
/// [`LoadError`].
pub(crate) fn begin(
    args: &Args,
    settings: Settings,
    hand_over: Option<u32>,
) -> Result<(Takeover, Programs), LoadError> {
    let root = load::root(&args.bpffs)?;
    let pins = Pins::choose(&root, Sizes::new(&args.table_rows), hand_over)?;
    let first = pins.former_flows.as_deref().or(pins.hand_over.as_deref());
    let programs = load::load(&pins, &settings, args.attach, first)?;
    if let Some(former) = &pins.former_tables {
        let rows = carry::places(former, &pins.tables)?;
        tracing::info!(rows, set = %pins.tables.display(), "the compiled tables are written anew: another layout");
    }
    if let Some(former) = &pins.former_flows {
        let flows = carry::flows(former, &pins.flows)?;
        tracing::info!(flows, set = %pins.flows.display(), "the flow tables have another layout or size; flows go along");
    }
    Ok((Takeover { pins, settings, attach: args.attach }, programs))
}

impl Takeover {
    /// Every hook runs the first programs: ends the way. `attach` gives every hook the programs that it is handed.
    ///
    /// # Errors
    /// [`LoadError`]; the next start goes the whole way again, and no flow is lost by that.
    pub(crate) fn end(
        &self,
        programs: &Mutex<Programs>,
        attach: impl Fn() -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        if let Some(former) = &self.pins.former_flows {
            // What hooks of before have recorded since.
            let flows = carry::flows(former, &self.pins.flows)?;
            tracing::info!(flows, "flows that the programs of before have recorded meanwhile");
            let last = load::load(&self.pins, &self.settings, self.attach, self.pins.hand_over.as_deref())?;
            *programs.lock().unwrap_or_else(PoisonError::into_inner) = last;
            attach()?;
        }
        if let Some(other) = &self.pins.hand_over {
            let flows = carry::mirror(&self.pins.flows, other)?;
            tracing::info!(flows, set = %other.display(), "flows are kept for an earlier version too");
        }
        self.pins.settle()
    }
}
