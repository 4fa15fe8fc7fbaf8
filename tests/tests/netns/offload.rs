//! A device without offloads: every packet whole and summed up before it leaves, none put together when it comes in.
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use std::os::fd::AsRawFd;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `ETHTOOL_S…`: GRO, GSO, TSO, receive and transmit checksums, scatter and gather.
const OFF: [u32; 6] = [0x2c, 0x24, 0x1f, 0x15, 0x17, 0x19];

/// Switches off all that a device of this thread's namespace would leave to somebody else.
#[expect(unsafe_code, reason = "a device's features have no other door that takes no library")]
pub(crate) fn off(device: &str) {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
    for command in OFF {
        let mut value = Value { command, data: 0 };
        // SAFETY: all zeros is a valid value of this C struct; the kernel reads and writes `value`, which outlives the call.
        let answer = unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request)
        };
        assert_eq!(answer, 0, "feature {command:#x} of {device}: {}", Errno::last());
    }
}
