//! Other network namespaces: entered on a thread of its own, since a namespace belongs to a thread and the runtime's
//! workers must keep theirs.
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};

use crate::netlink::{Netlink, NetlinkError};

/// Something inside a network namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path is not there or is no namespace.
    #[error("cannot open the network namespace {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not let us in.
    #[error("cannot enter the network namespace {path}")]
    Enter {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A request inside failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Opens a namespace by its path.
///
/// # Errors
/// [`NetnsError::Open`].
pub fn open(path: &Path) -> Result<File, NetnsError> {
    let failed = |source| NetnsError::Open { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    match nix::sys::statfs::fstatfs(&file) {
        Ok(system) if system.filesystem_type() == nix::sys::statfs::NSFS_MAGIC => Ok(file),
        // A bind mount that is gone leaves the empty file that it was on.
        Ok(_) => Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no namespace"))),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// True if the namespace's name was removed. A name that is no namespace, or a place that is not there, may be only what this
/// process sees of the machine: that tells nothing.
pub fn is_removed(path: &Path) -> bool {
    let missing = |path: &Path| std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    missing(path) && path.parent().is_some_and(Path::is_dir)
}

/// True for the namespace of this process.
pub fn is_own(netns: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |file: io::Result<std::fs::Metadata>| file.ok().map(|data| (data.dev(), data.ino()));
    let own = id(std::fs::metadata("/proc/thread-self/ns/net"));
    own.is_some() && id(netns.metadata()) == own
}

/// A connection to the namespace at `path`, made by a thread that enters it. What is asked by it runs on the runtime as
/// everything does: only the socket is of the namespace.
///
/// # Errors
/// That the namespace cannot be entered, or that there is no socket.
pub async fn connect(path: &Path) -> Result<Netlink, NetnsError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (file, path) = (open(path)?, path.to_path_buf());
    let enter = |path: PathBuf| move |source| NetnsError::Enter { path, source };
    let failed = enter(path.clone());
    let runtime = tokio::runtime::Handle::current();
    let entered = path.clone();
    let thread = std::thread::Builder::new().name("netns".into()).spawn(move || {
        let run = || {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
            let _runtime = runtime.enter();
            Ok(Netlink::open()?)
        };
        let _ = sender.send(run());
    });
    thread.map_err(enter(path))?;
    receiver.await.unwrap_or_else(|_| Err(enter(entered)(io::Error::other("the thread for it ended early"))))
}
