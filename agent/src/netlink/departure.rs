//! The end of a device, as soon as nothing goes by it any more.
//!
//! The kernel answers who removes a device some 20 ms after it has gone: it waits until everything that was to be freed before
//! is freed (`rcu_barrier`), without its lock. Nothing of that concerns the pod, or whoever takes the device's name. So the
//! answer is left to a thread, and the word that the kernel gives to all, once the device is gone, is waited for.
use std::{future::pending, io, thread};

use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::{
    runtime::Handle,
    select,
    sync::oneshot::{self, Sender},
};

use super::{
    Link, NetlinkError,
    direct::{ANSWER, Direct, no_socket},
};

/// The group that is told of devices, and its message when one goes (linux/rtnetlink.h).
const DEVICES: u32 = 1;
const GONE: u16 = 17;

/// Removes a device; false if it is not there.
///
/// # Errors
/// What the kernel said.
pub async fn remove(name: &str) -> Result<bool, NetlinkError> {
    let (tell, departure) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    let (device, runtime) = (name.to_owned(), Handle::current());
    let work = move || {
        let _runtime = runtime.enter();
        // Nobody listens any more if the device was seen to go.
        let _ = answer.send(run(&device, tell));
    };
    let failed = |source| NetlinkError { operation: "remove the device", object: name.to_owned(), source };
    thread::Builder::new().name("departure".into()).spawn(work).map_err(failed)?;
    let seen = async {
        match departure.await {
            Ok(departure) => departure.seen().await,
            Err(_) => pending().await,
        }
    };
    select! {
        result = answered => result.unwrap_or_else(|_| Err(failed(io::Error::other("the thread for it ended early")))),
        () = seen => Ok(true),
    }
}

fn run(name: &str, tell: Sender<Departure>) -> Result<bool, NetlinkError> {
    let kernel = Direct::open()?;
    let Some(link) = kernel.link(name)? else { return Ok(false) };
    // Without it the answer does, later.
    if let Ok(departure) = Departure::of(&link) {
        let _ = tell.send(departure);
    }
    kernel.remove(&link)
}

/// Tells when a device has gone: nothing goes by it any more, nobody finds it, and its name is free. The kernel answers its
/// remover some 20 ms later, when it has freed the memory too.
struct Departure {
    socket: TokioSocket,
    index: u32,
}

impl Departure {
    /// Of a device that is there now. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// No socket.
    fn of(link: &Link) -> Result<Departure, NetlinkError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind_auto()?;
            socket.socket_mut().add_membership(DEVICES)?;
            Ok(socket)
        };
        Ok(Departure { socket: open().map_err(no_socket)?, index: link.index })
    }

    /// Returns when it has gone; never if the kernel's word was lost, so somebody has to know otherwise too.
    async fn seen(self) {
        let mut bytes = Vec::with_capacity(ANSWER);
        loop {
            bytes.clear();
            match self.socket.recv(&mut bytes).await {
                Ok(()) if tells_of(&bytes, self.index) => return,
                Ok(()) => {}
                // Some were lost, and the next one may be it.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return pending().await,
            }
        }
    }
}

/// Whether a datagram says that the device has gone: type and interface index are at fixed places (linux/netlink.h,
/// `struct ifinfomsg`).
fn tells_of(datagram: &[u8], index: u32) -> bool {
    let kind = datagram.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let of = datagram.get(20..24).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    (kind, of) == (Some(GONE), Some(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: u16, index: u32, expected: bool) {
        let mut datagram = vec![0; 32];
        datagram[4..6].copy_from_slice(&kind.to_ne_bytes());
        datagram[20..24].copy_from_slice(&index.to_ne_bytes());
        assert_eq!(tells_of(&datagram, 7), expected);
    }

    #[test]
    fn the_word_of_a_departure() {
        check(GONE, 7, true);
        check(GONE, 8, false);
        check(16, 7, false);
        assert!(!tells_of(&[], 7));
    }
}
