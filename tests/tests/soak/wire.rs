//! Frames straight onto a device, as fast as one thread can.
#![expect(unsafe_code, reason = "packet sockets and sendmmsg are in no safe library that the tests have")]
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::libc;

/// Frames of one call.
const BATCH: usize = 64;

/// Sends the frames again and again in this thread's network namespace, until the time is over; how many went.
pub(crate) fn pour(device: &str, frames: &[Vec<u8>], time: Duration) -> io::Result<u64> {
    let socket = open(device)?;
    let mut vectors: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: all zeros is a valid message header.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (vector, 1);
            message
        })
        .collect();
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        for batch in messages.chunks_mut(BATCH) {
            // SAFETY: each header's vector and its frame live as long as this function.
            let done = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), batch.len() as u32, 0) };
            match u64::try_from(done) {
                Ok(done) => sent += done,
                // The device's queue is full for a moment.
                Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return Err(io::Error::last_os_error()),
            }
            if begun.elapsed() >= time {
                break;
            }
        }
    }
    Ok(sent)
}

fn open(device: &str) -> io::Result<OwnedFd> {
    let name = CString::new(device)?;
    // SAFETY: the name ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: no pointer is passed.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if index == 0 || socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let on: libc::c_int = 1;
    // SAFETY: all zeros is a valid address.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index as i32;
    // SAFETY: both pointers are to values of the length that is told.
    let done = unsafe {
        let bypass = (&raw const on).cast();
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            bypass,
            size_of_val(&on) as u32,
        ) | libc::bind(socket.as_raw_fd(), (&raw const to).cast(), size_of_val(&to) as u32)
    };
    if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}
