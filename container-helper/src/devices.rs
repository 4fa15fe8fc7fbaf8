//! The device filter of a container on the unified hierarchy: a small BPF program, put together here.
//!
//! cgroup v1 has its devices controller and libcontainer writes its rules; on v2 libcontainer (without a C library) has
//! nothing, and a container would open every device whose number it can make a node for. The program allows what
//! containerd allows and nothing else. It is replaced with its group.
#![expect(unsafe_code, reason = "loading and attaching a program is the bpf system call")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Character devices that every container may use: `(major, minor)`; `None` for every minor.
const ALLOWED: [(i32, Option<i32>); 10] = [
    (1, Some(3)),    // null
    (1, Some(5)),    // zero
    (1, Some(7)),    // full
    (1, Some(8)),    // random
    (1, Some(9)),    // urandom
    (5, Some(0)),    // tty
    (5, Some(1)),    // console
    (5, Some(2)),    // ptmx
    (136, None),     // pts
    (10, Some(200)), // tun, as runc's defaults have it
];

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// One instruction, as the kernel has it in `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Insn {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn insn(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: destination | (source << 4), offset, immediate }
}

/// `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`; the low half of the first is the device's kind.
fn program() -> Vec<Insn> {
    const LOAD32: u8 = 0x61;
    const AND32: u8 = 0x54;
    const MOVE64: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    const JUMP_NOT_EQUAL: u8 = 0x55;
    const CHARACTER: i32 = 2;
    let mut program = vec![
        insn(LOAD32, 2, 1, 0, 0),
        insn(AND32, 2, 0, 0, 0xffff),
        insn(LOAD32, 3, 1, 4, 0),
        insn(LOAD32, 4, 1, 8, 0),
        // Any other kind (block, or both) goes past all rules to the end.
        insn(JUMP_NOT_EQUAL, 2, 0, i16::try_from(rules_length()).expect("a few dozen"), CHARACTER),
    ];
    for (major, minor) in ALLOWED {
        let checks = i16::from(minor.is_some());
        program.push(insn(JUMP_NOT_EQUAL, 3, 0, 2 + checks, major));
        if let Some(minor) = minor {
            program.push(insn(JUMP_NOT_EQUAL, 4, 0, 2, minor));
        }
        program.extend([insn(MOVE64, 0, 0, 0, 1), insn(EXIT, 0, 0, 0, 0)]);
    }
    program.extend([insn(MOVE64, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
    program
}

fn rules_length() -> usize {
    ALLOWED.iter().map(|(_, minor)| 3 + usize::from(minor.is_some())).sum()
}

/// The part of `union bpf_attr` that PROG_LOAD reads.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that PROG_ATTACH reads.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Lets the processes of the group at `group` use the allowed devices only.
pub(crate) fn filter(group: &Path) -> io::Result<()> {
    let program = program();
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).expect("a few dozen"),
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    load.name[..11].copy_from_slice(b"weft_device");
    let loaded = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else knows it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let group = File::open(group)?;
    let attach = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: loaded.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replaced: 0,
    };
    bpf(PROG_ATTACH, &attach).map(|_| ())
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` is a plain C structure that lives through the call, with its own size; the kernel takes what it
    // does not cover as zero. The addresses in it (instructions, license) outlive the call in `filter`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(libc::c_int::try_from(result).expect("a descriptor")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program returns for a device, by executing it here.
    fn run(kind: i32, major: i32, minor: i32) -> i32 {
        let context = [kind | (6 << 16), major, minor];
        let (program, mut registers, mut at) = (program(), [0_i32; 5], 0_usize);
        loop {
            let insn = program[at];
            let destination = usize::from(insn.registers & 15);
            at += 1;
            match insn.code {
                0x61 => registers[destination] = context[usize::try_from(insn.offset).expect("positive") / 4],
                0x54 => registers[destination] &= insn.immediate,
                0xb7 => registers[destination] = insn.immediate,
                0x55 if registers[destination] != insn.immediate => {
                    at += usize::try_from(insn.offset).expect("forward");
                }
                0x55 => {}
                0x95 => return registers[0],
                code => panic!("unknown code {code:#x}"),
            }
        }
    }

    #[track_caller]
    fn check(kind: i32, major: i32, minor: i32, allowed: bool) {
        assert_eq!(run(kind, major, minor), i32::from(allowed), "{kind} {major}:{minor}");
    }

    #[test]
    fn rules() {
        let (block, character) = (1, 2);
        check(character, 1, 3, true);
        check(character, 1, 9, true);
        check(character, 136, 77, true);
        check(character, 1, 11, false); // kmsg
        check(character, 1, 1, false); // mem
        check(character, 5, 9, false);
        check(block, 1, 3, false);
        check(block, 254, 0, false);
    }
}
