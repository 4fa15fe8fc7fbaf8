//! Taking over what an earlier supervisor left running: fabric and listeners from the publisher, which holds them; nodes,
//! API server and publisher by their pids. Nothing of it notices.
//!
//! A pid of the state file is believed only while it is in the cgroup that it belongs to. What has ended meanwhile is
//! started again, as ever.
use super::{Error, Supervisor, supervisor};
use crate::{
    cgroup, handoff,
    netns::Netns,
    paths::{self, Paths},
    spec::Spec,
    state::State,
};

/// A supervisor of what runs.
pub(super) fn supervisor_of(spec: Spec, paths: Paths) -> Result<Supervisor, Error> {
    let state = State::read(&paths.state()).unwrap_or_default();
    let group = paths::cgroup(&spec.name);
    let alive = |leaf: &str, pid: Option<i32>| -> Result<Option<i32>, Error> {
        let processes = cgroup::processes(&group.join(leaf))?;
        Ok(pid.filter(|pid| processes.contains(pid)))
    };
    let publisher = alive("outside", state.outside)?;
    let (Some(publisher), Some(held)) = (publisher, state.held) else {
        return Err(Error::NothingHeld(spec.name));
    };
    let borrow = |number| handoff::borrow_from(publisher, number).map_err(Error::Descriptor);
    let nets = (Netns::of_descriptor(borrow(held.fabric)?), Netns::of_process(publisher)?);
    let published = held.published.iter().copied().map(borrow).collect::<Result<Vec<_>, _>>()?;
    let mut all = supervisor(spec, paths, nets, (borrow(held.api)?, published));
    let failed = |error| Error::Sys("taking over a process", error);
    all.publisher.adopt(publisher).map_err(failed)?;
    if let Some(pid) = alive("server", state.server)? {
        all.server.adopt(pid).map_err(failed)?;
    }
    for node in &mut all.nodes {
        if let Some(pid) = alive(&node.name, state.nodes.get(&node.name).copied())? {
            node.netns = Some(Netns::of_process(pid)?);
            node.child.adopt(pid).map_err(failed)?;
        }
    }
    all.held = Some(held);
    Ok(all)
}
