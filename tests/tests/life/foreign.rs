//! A program of somebody else: counts the packets it sees, and lets the next one decide. Raw `bpf(2)`, so that nothing of
//! ours is in it.
#![expect(unsafe_code, reason = "bpf(2) takes pointers and hands out descriptors")]
use std::{
    ffi::CString,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::libc;

use crate::namespaces::sh;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const LINK_CREATE: libc::c_long = 28;
/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// Before whom a program is attached.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    First,
    Last,
}

/// A program on a device, as long as this lives.
pub(crate) struct Foreign {
    map: OwnedFd,
    program: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Foreign {
    /// Attaches one to what comes in by a device of this thread's network.
    pub(crate) fn attach(device: &str, place: Place) -> Foreign {
        Foreign::attach_at(device, TCX_INGRESS, place)
    }

    /// The same to what goes out by it.
    pub(crate) fn attach_egress(device: &str, place: Place) -> Foreign {
        Foreign::attach_at(device, TCX_EGRESS, place)
    }

    fn attach_at(device: &str, at: u32, place: Place) -> Foreign {
        let map = map();
        let program = program(&map);
        let name = CString::new(device).expect("a name");
        let index = nix::net::if_::if_nametoindex(name.as_c_str()).expect("a device");
        let flags = match place {
            Place::First => 1 << 3,
            Place::Last => 1 << 4,
        };
        let link = [descriptor(&program), index, at, flags, 0, 0, 0, 0];
        let link = made(LINK_CREATE, &link.map(u32::to_ne_bytes).concat());
        Foreign { map, program, _link: Some(link) }
    }

    /// The same program as a clsact filter, which `tc` takes from a pin: it outlives this.
    pub(crate) fn filter(verb: &str, at: &str, priority: u16, pin: &Path) -> Foreign {
        let map = map();
        let foreign = Foreign { program: program(&map), map, _link: None };
        let path = CString::new(pin.as_os_str().as_encoded_bytes()).expect("a path");
        let mut attr = (path.as_ptr() as u64).to_ne_bytes().to_vec();
        attr.extend([descriptor(&foreign.program), 0].map(u32::to_ne_bytes).concat());
        assert_eq!(bpf(OBJ_PIN, &attr), 0, "{}", std::io::Error::last_os_error());
        let pin = pin.display();
        sh(&format!("tc filter {verb} dev {at} pref {priority} handle 1 bpf da object-pinned {pin}"));
        foreign
    }

    /// Packets seen so far.
    pub(crate) fn seen(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let mut attr = [0_u64; 4];
        attr[0] = u64::from(descriptor(&self.map));
        attr[1] = std::ptr::from_ref(&key) as u64;
        attr[2] = std::ptr::from_mut(&mut value) as u64;
        assert_eq!(bpf(MAP_LOOKUP, &attr.map(u64::to_ne_bytes).concat()), 0);
        value
    }
}

fn descriptor(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn map() -> OwnedFd {
    let array = 2_u32;
    made(MAP_CREATE, &[array, 4, 8, 1, 0].map(u32::to_ne_bytes).concat())
}

fn program(map: &OwnedFd) -> OwnedFd {
    let map = i32::try_from(descriptor(map)).expect("a small number");
    // Opcode, registers (source << 4 | destination), offset, immediate.
    let code: [(u8, u8, i16, i32); 11] = [
        (0x18, 0x11, 0, map), // r1 = map (two instructions)
        (0x00, 0x00, 0, 0),
        (0x62, 0x0a, -4, 0), // *(u32 *)(r10 - 4) = 0
        (0xbf, 0xa2, 0, 0),  // r2 = r10
        (0x07, 0x02, 0, -4), // r2 += -4
        (0x85, 0x00, 0, 1),  // r0 = map_lookup_elem(r1, r2)
        (0x15, 0x00, 2, 0),  // if r0 == 0 skip two
        (0xb7, 0x01, 0, 1),  // r1 = 1
        (0xdb, 0x10, 0, 0),  // lock *(u64 *)(r0 + 0) += r1
        (0xb7, 0x00, 0, -1), // r0 = TCX_NEXT
        (0x95, 0x00, 0, 0),  // exit
    ];
    let words = |(code, registers, offset, immediate): &(u8, u8, i16, i32)| {
        let mut bytes = vec![*code, *registers];
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(immediate.to_ne_bytes());
        bytes
    };
    let instructions: Vec<u8> = code.iter().flat_map(words).collect();
    let license = CString::new("GPL").expect("no zero");
    let tc = 3_u32;
    let mut attr = [tc, code.len() as u32].map(u32::to_ne_bytes).concat();
    attr.extend((instructions.as_ptr() as u64).to_ne_bytes());
    attr.extend((license.as_ptr() as u64).to_ne_bytes());
    // No log, and no particular kernel or flags.
    attr.extend([0; 16]);
    attr.extend([0; 8]);
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"foreign");
    attr.extend(name);
    made(PROG_LOAD, &attr)
}

fn made(command: libc::c_long, attr: &[u8]) -> OwnedFd {
    let fd = bpf(command, attr);
    assert!(fd >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just handed out this descriptor.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) }
}

fn bpf(command: libc::c_long, attr: &[u8]) -> libc::c_long {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the length that is passed; what it points to lives across the call.
    unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), attr.len()) }
}
