//! Listeners that one process opens and another serves: opened on the host, used in a namespace.
#![expect(unsafe_code, reason = "descriptors cross exec as numbers")]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
};

/// Lets `command` inherit the descriptor under its own number. The caller keeps `fd` open until the command is spawned.
pub fn pass(command: &mut Command, fd: &impl AsFd) -> RawFd {
    let number = fd.as_fd().as_raw_fd();
    // SAFETY: between fork and exec this calls fcntl(2) alone, on a number that is open there if the caller kept `fd`;
    // if not, it fails with EBADF and so does the spawn.
    unsafe {
        command.pre_exec(move || {
            fcntl(BorrowedFd::borrow_raw(number), FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    number
}

/// A second holder of what another process has open under a number (`pidfd_getfd`, Linux 5.6).
pub fn borrow_from(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    let process = process(pid)?;
    // SAFETY: plain numbers go in, and a new descriptor or -1 comes out.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    owned(fd)
}

/// A descriptor that becomes readable when the process ends; the process need not be a child.
pub fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: as above.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(answer) {
        // SAFETY: the kernel has just made it for this process, close-on-exec, and nothing else knows its number.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes a descriptor that was passed by number; it closes on the next exec again.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors 0 to 2 are not handed over"));
    }
    // SAFETY: `fcntl` on a number that is not open fails with EBADF, and nothing is borrowed beyond the call.
    fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open (above), and the process that started this one passed it for this one to own.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
