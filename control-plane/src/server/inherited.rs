//! Listeners that the parent process opened and passed on: for addresses outside this process's network namespace.
#![expect(unsafe_code, reason = "a descriptor's number becomes its owner only by an unsafe promise")]
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use tokio::net::TcpListener;

/// Takes over descriptor `number`, which must be a listening TCP socket that nothing else in this process uses.
pub(super) fn listener(number: i32) -> io::Result<TcpListener> {
    if number < 3 || !std::path::Path::new(&format!("/proc/self/fd/{number}")).exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such descriptor"));
    }
    // SAFETY: it is open (seen above), and the command line gives it to us: no other part of the process knows it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    listener.local_addr()?; // Fails on what is no socket.
    TcpListener::from_std(listener)
}
