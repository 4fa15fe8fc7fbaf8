//! Who listens to new flows: while anybody does, the programs tell of them.
//!
//! A switch in a map that only the slow path reads: packets of flows that are known pay nothing for it.
use std::sync::{Arc, Mutex};

use abi::config::TELL_FLOWS;

use crate::{Shared, load::LoadError};

/// How many listen.
#[derive(Debug, Default)]
pub struct Listeners(Mutex<usize>);

/// One that listens, until it is dropped.
pub struct Listens(Arc<Shared>);

impl Listens {
    /// One more. Before the node's network is ready there is nothing to switch: the start does it then.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn new(shared: Arc<Shared>) -> Result<Listens, LoadError> {
        let mut count = shared.listeners.0.lock().expect("no holder panics");
        if *count == 0 {
            switch(&shared, true)?;
        }
        *count += 1;
        drop(count);
        Ok(Listens(shared))
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        let mut count = self.0.listeners.0.lock().expect("no holder panics");
        *count -= 1;
        if *count == 0
            && let Err(error) = switch(&self.0, false)
        {
            tracing::warn!(error = crate::chain(&error), "new flows are told of although nobody listens");
        }
    }
}

/// For the start: listeners that came before there were programs.
///
/// # Errors
/// The map cannot be written.
pub fn catch_up(shared: &Shared) -> Result<(), LoadError> {
    let count = shared.listeners.0.lock().expect("no holder panics");
    if *count > 0 { switch(shared, true) } else { Ok(()) }
}

fn switch(shared: &Shared, on: bool) -> Result<(), LoadError> {
    let Some(started) = shared.started.get() else { return Ok(()) };
    let bits = if on { TELL_FLOWS } else { 0 };
    started.programs.lock().expect("no holder panics").switch(bits)
}
