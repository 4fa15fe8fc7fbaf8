//! Mounts that the runtime makes and takes down: root filesystems and the pods' shared memory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, statfs};

/// `NSFS_MAGIC` of the kernel's `magic.h`: a pinned namespace.
const NSFS: FsType = FsType(0x6e73_6673);

/// Mounts the image's layers (lowest first) with a writable layer of the container's own at `dir/rootfs`.
///
/// Not `nodev` by accident: device nodes in an image or made by a container must never open a device of the node.
pub(super) fn mount_rootfs(dir: &Path, layers: &[PathBuf]) -> io::Result<()> {
    let (upper, work, target) = (dir.join("upper"), dir.join("work"), dir.join("rootfs"));
    let empty = dir.join("empty");
    for path in [&upper, &work, &target, &empty] {
        fs::create_dir_all(path)?;
    }
    let mut options = OsString::from("lowerdir=");
    // overlayfs takes the topmost layer first; an image without layers has an empty one.
    for (at, layer) in layers.iter().rev().chain(layers.is_empty().then_some(&empty)).enumerate() {
        if at > 0 {
            options.push(":");
        }
        options.push(layer);
    }
    for (key, path) in [(",upperdir=", &upper), (",workdir=", &work)] {
        options.push(key);
        options.push(path);
    }
    mount(Some("overlay"), &target, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_os_str()))
        .map_err(io::Error::from)
}

/// A tmpfs of at most `size` bytes (0 for the kernel's own limit) at `target`, which is made.
pub(crate) fn mount_tmpfs(target: &Path, size: u64, mode: u32) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mut options = format!("mode={mode:o}");
    if size > 0 {
        options = format!("{options},size={size}");
    }
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str())).map_err(io::Error::from)
}

/// Unmounts whatever is mounted at `target`, once or several times; nothing there is fine.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a namespace is pinned at `path`: after a power cut only an empty file is left, or nothing.
pub(super) fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}
