//! Hooks onto devices: one function with two bodies.
//!
//! tcx (Linux 6.6): a link, pinned under a name of device and program, whose program a restart replaces in place. clsact:
//! a filter of fixed priority and handle, replaced in place too. Neither goes away with the agent.
//!
//! Devices of pods get filters also where there is tcx, unless `--attach tcx` asks for links: the kernel waits for a grace
//! period of RCU when a first tcx program comes to a device and again when the device goes (4 × 16 ms here), each time with
//! the lock held under which all devices are made (docs/adr/0028).
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use abi::event::Hook;
use aya::{
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    sys::SyscallError,
};

use super::{LoadError, Programs, names, program, remove};
use crate::args::Attach;

/// Priority of our filters: before others that leave it to the kernel (49152 and down).
pub(crate) const PRIORITY: u16 = 87;
/// Their handle.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// A program cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The attachment itself.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// An earlier attachment, or the pin of this one.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The pin.
    #[error(transparent)]
    Pin(#[from] aya::pin::PinError),
    /// The clsact qdisc.
    #[error("cannot add the clsact qdisc")]
    Qdisc(#[source] TcError),
    /// The mark that the qdisc is ours.
    #[error("cannot note that the clsact qdisc is ours")]
    Mark(#[source] io::Error),
    /// The device.
    #[error("cannot find the device")]
    Device(#[source] io::Error),
}

impl Programs {
    /// "tcx" or "clsact".
    pub fn kind(&self) -> &'static str {
        if self.tcx { "tcx" } else { "clsact" }
    }

    /// Attaches a hook to a device, or replaces its program there.
    ///
    /// # Errors
    /// [`LoadError::Attach`].
    pub fn attach(&mut self, hook: Hook, device: &str) -> Result<(), LoadError> {
        let pin = self.pin(hook, device);
        let name = hook.name();
        let tcx = self.by_tcx(hook, device);
        let made = self.root.join("clsact").join(device);
        let program = program(&mut self.bpf, name)?;
        let result = if tcx {
            attach_tcx(program, hook, device, pin).inspect(|()| detach_clsact(hook, device))
        } else {
            // The other way's attachment goes once this one is there: a packet must not be judged twice.
            attach_clsact(program, hook, device, &made).and_then(|()| remove_pin(&pin))
        };
        let device = device.to_owned();
        result.map_err(|source| LoadError::Attach { program: name, device, source: Box::new(source) })
    }

    /// Forgets the pins of a device that is gone.
    ///
    /// # Errors
    /// [`LoadError::Path`].
    pub fn forget(&self, device: &str) -> Result<(), LoadError> {
        let marks = self.root.join("clsact");
        let _ = std::fs::remove_dir(marks.join(device));
        let _ = std::fs::remove_dir(marks); // If that was the last one.
        Hook::ALL.iter().try_for_each(|hook| remove(&self.pin(*hook, device)))
    }

    /// True if the hook is pinned to the device; by clsact nothing is pinned.
    pub fn is_attached(&self, hook: Hook, device: &str) -> bool {
        !self.by_tcx(hook, device) || self.pin(hook, device).exists()
    }

    /// Whether the hook is a link of this device, and not a filter.
    pub fn by_tcx(&self, hook: Hook, device: &str) -> bool {
        match (hook, self.pods) {
            (Hook::FromPod | Hook::ToPod, Attach::Auto) => self.tcx && self.pin(hook, device).exists(),
            _ => self.tcx,
        }
    }

    /// The programs of pods' hooks.
    ///
    /// # Errors
    /// [`LoadError::Missing`], [`LoadError::Program`].
    pub fn of_pods(&self) -> Result<[(Hook, OwnedFd); 2], LoadError> {
        let of = |hook: Hook| {
            let program = self.bpf.program(hook.name()).ok_or(LoadError::Missing(hook.name()))?;
            let failed = |source| LoadError::Program { name: hook.name(), source: Box::new(source) };
            let fd = program.fd().map_err(failed)?.as_fd().try_clone_to_owned();
            Ok((hook, fd.map_err(|error| failed(ProgramError::IOError(error)))?))
        };
        Ok([of(Hook::FromPod)?, of(Hook::ToPod)?])
    }

    /// How pods' hooks are attached where nothing is attached yet.
    pub fn kind_of_pods(&self) -> &'static str {
        if self.pods == Attach::Tcx { "tcx" } else { "clsact" }
    }

    /// What is pinned: program and device.
    pub fn attached(&self) -> Vec<(String, String)> {
        let split = |name: String| name.split_once('@').map(|(hook, device)| (hook.to_owned(), device.to_owned()));
        names(&self.root.join("links")).into_iter().filter_map(split).collect()
    }

    /// Every device that something is pinned or marked for.
    pub fn devices(&self) -> BTreeSet<String> {
        let marked = names(&self.root.join("clsact"));
        self.attached().into_iter().map(|(_, device)| device).chain(marked).collect()
    }

    fn pin(&self, hook: Hook, device: &str) -> PathBuf {
        self.root.join("links").join(format!("{}@{device}", hook.name()))
    }
}

/// Which way the hook looks at its device.
fn direction(hook: Hook) -> TcAttachType {
    match hook {
        Hook::ToPod | Hook::ToNetdev => TcAttachType::Egress,
        Hook::FromPod | Hook::FromHost | Hook::FromOverlay | Hook::FromNetdev => TcAttachType::Ingress,
    }
}

fn attach_tcx(program: &mut SchedClassifier, hook: Hook, device: &str, pin: PathBuf) -> Result<(), AttachError> {
    match PinnedLink::from_pin(&pin) {
        Ok(pinned) => {
            let link = SchedClassifierLink::try_from(FdLink::from(pinned))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    // The pin keeps the link; ours is one more reference to it.
                    drop(program.take_link(id)?);
                    return Ok(());
                }
                // The device of that name was another one and is gone.
                Err(error) if errno(&error) == Some(libc::ENOLINK) => {
                    std::fs::remove_file(&pin).map_err(AttachError::Device)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(LinkError::SyscallError(SyscallError { io_error, .. })) if io_error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(device, direction(hook), options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}

/// `made` is a mark that the qdisc is ours: cleanup leaves others'. A directory, since bpffs keeps no files.
fn attach_clsact(program: &mut SchedClassifier, hook: Hook, device: &str, made: &Path) -> Result<(), AttachError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) => std::fs::create_dir_all(made).map_err(AttachError::Mark)?,
        Err(TcError::AlreadyAttached) => {}
        Err(error) if source_errno(&error) == Some(libc::EEXIST) => {}
        Err(error) => return Err(AttachError::Qdisc(error)),
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let id = match program.attach_with_options(device, direction(hook), TcAttachOptions::Netlink(options)) {
        Err(error) if errno(&error) == Some(libc::EEXIST) => {
            let there = SchedClassifierLink::attached(device, direction(hook), PRIORITY, HANDLE, None);
            program.attach_to_link(there.map_err(AttachError::Device)?)?
        }
        other => other?,
    };
    // Dropping this would detach it, and the filter outlives the agent.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes the hook's filter from a device; no error if there is none.
pub(crate) fn detach_clsact(hook: Hook, device: &str) {
    let _ = tc::qdisc_detach_program(device, direction(hook), hook.name());
}

fn remove_pin(pin: &Path) -> Result<(), AttachError> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AttachError::Device(error)),
        _ => Ok(()),
    }
}

/// The error number at the bottom of an error.
fn errno(error: &ProgramError) -> Option<i32> {
    source_errno(error)
}

fn source_errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}
