//! `bpf(2)` on maps as raw bytes: look-up, update, delete and their batches.
//!
//! aya's typed maps want the type at compile time and know no batches; the rows here are bytes that `abi` types made
//! (`zerocopy`), and one code path serves every table. Linux 5.6 and later for the batches, 5.12 for those of LPM tries;
//! where a kind has none, rows go one by one.
#![expect(unsafe_code, reason = "bpf(2) takes pointers to keys and values")]
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use abi::map::{MapKind, MapSpec};

const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const GET_NEXT_KEY: libc::c_long = 4;
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;

/// Rows in one system call.
const BATCH: usize = 4_096;

/// An open map.
#[derive(Debug)]
pub struct RawMap {
    fd: OwnedFd,
    key: usize,
    value: usize,
    max_entries: u32,
    array: bool,
}

#[repr(C)]
struct Elem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl RawMap {
    /// A map whose rows have the sizes of `spec`; per-CPU maps hold one value per possible CPU.
    pub fn new(fd: OwnedFd, spec: &MapSpec, possible_cpus: usize) -> RawMap {
        let value = match spec.kind {
            MapKind::PerCpuArray => spec.value.next_multiple_of(8) * possible_cpus,
            _ => spec.value,
        };
        let array = matches!(spec.kind, MapKind::Array | MapKind::PerCpuArray);
        RawMap { fd, key: spec.key, value, max_entries: spec.max_entries, array }
    }

    /// Rows that fit.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Bytes of a row, key and value.
    pub fn row_size(&self) -> usize {
        self.key + self.value
    }

    /// The row of `key`.
    ///
    /// # Errors
    /// What the kernel said, a missing row apart.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Box<[u8]>>> {
        let mut value = vec![0; self.value].into_boxed_slice();
        match self.elem(LOOKUP, key, value.as_mut_ptr()) {
            Ok(()) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the row of `key`.
    ///
    /// # Errors
    /// What the kernel said; `E2BIG` and `ENOSPC` when the map is full.
    pub fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value, "a value of another size");
        self.elem(UPDATE, key, value.as_ptr().cast_mut())
    }

    /// Adds the row of `key`; false if there is one.
    ///
    /// # Errors
    /// What the kernel said; `E2BIG` when the map is full.
    pub fn add(&self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        const NOEXIST: u64 = 1;
        assert_eq!((key.len(), value.len()), (self.key, self.value), "a row of another size");
        let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
        match bpf(UPDATE, &mut Elem { map_fd: self.raw(), pad: 0, key, value, flags: NOEXIST }) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the row of `key` (an array's is zeroed); it is no error if it is not there.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        if self.array {
            return self.put(key, &vec![0; self.value]);
        }
        match self.elem(DELETE, key, std::ptr::null_mut()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Sets many rows; on an error, how many were surely written comes with it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn put_batch<'a>(&self, rows: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), (usize, io::Error)> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in rows {
            assert!(key.len() == self.key && value.len() == self.value, "a row of another size");
            keys.extend_from_slice(key);
            values.extend_from_slice(value);
        }
        let count = keys.len() / self.key;
        if count == 0 {
            return Ok(());
        }
        let mut batch = self.batch_attr(count, &mut keys, &mut values);
        match bpf(UPDATE_BATCH, &mut batch) {
            Ok(()) => Ok(()),
            Err(error) if unsupported(&error) => self.put_each(&keys, &values),
            Err(error) => Err(((batch.count as usize).min(count), error)),
        }
    }

    /// Removes many rows; those that are not there are passed over.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn delete_batch(&self, keys: &mut [u8]) -> io::Result<()> {
        let mut rest = keys;
        while !rest.is_empty() {
            let count = rest.len() / self.key;
            let mut batch = self.batch_attr(count, rest, &mut []);
            let done = match bpf(DELETE_BATCH, &mut batch) {
                Ok(()) => count,
                // The kernel stops at a key that is not there: go on behind it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (batch.count as usize + 1).min(count),
                Err(error) if unsupported(&error) => {
                    for key in rest.chunks_exact(self.key) {
                        self.delete(key)?;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            rest = &mut rest[done * self.key..];
        }
        Ok(())
    }

    /// Calls `each` with every row. Rows that come or go meanwhile may be missed or seen.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut keys = vec![0; self.key * BATCH];
        let mut values = vec![0; self.value * BATCH];
        let mut cursor = vec![0; self.key.max(8)];
        let mut first = true;
        loop {
            let mut batch = self.batch_attr(BATCH, &mut keys, &mut values);
            batch.in_batch = if first { 0 } else { cursor.as_ptr() as u64 };
            batch.out_batch = cursor.as_mut_ptr() as u64;
            let result = bpf(LOOKUP_BATCH, &mut batch);
            if let Err(error) = &result
                && first
                && unsupported(error)
            {
                return self.for_each_key(each);
            }
            let end = match result {
                Ok(()) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            let count = batch.count as usize;
            for (key, value) in keys.chunks_exact(self.key).zip(values.chunks_exact(self.value)).take(count) {
                each(key, value);
            }
            if end {
                return Ok(());
            }
            first = false;
        }
    }

    /// How many rows there are now; an array counts those that are not all zero.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn count(&self) -> io::Result<u32> {
        let mut count = 0;
        self.for_each(|_, value| count += u32::from(!self.array || value.iter().any(|byte| *byte != 0)))?;
        Ok(count)
    }

    fn put_each(&self, keys: &[u8], values: &[u8]) -> Result<(), (usize, io::Error)> {
        for (done, (key, value)) in keys.chunks_exact(self.key).zip(values.chunks_exact(self.value)).enumerate() {
            self.put(key, value).map_err(|error| (done, error))?;
        }
        Ok(())
    }

    fn for_each_key(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut key: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0; self.key];
            let from = key.as_deref().map_or(std::ptr::null(), <[u8]>::as_ptr);
            let attr = Elem { map_fd: self.raw(), pad: 0, key: from as u64, value: next.as_mut_ptr() as u64, flags: 0 };
            match bpf(GET_NEXT_KEY, &mut { attr }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
            if let Some(value) = self.get(&next)? {
                each(&next, &value);
            }
            key = Some(next);
        }
    }

    fn elem(&self, command: libc::c_long, key: &[u8], value: *mut u8) -> io::Result<()> {
        assert_eq!(key.len(), self.key, "a key of another size");
        bpf(command, &mut Elem { map_fd: self.raw(), pad: 0, key: key.as_ptr() as u64, value: value as u64, flags: 0 })
    }

    fn batch_attr(&self, count: usize, keys: &mut [u8], values: &mut [u8]) -> Batch {
        Batch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_mut_ptr() as u64,
            values: if values.is_empty() { 0 } else { values.as_mut_ptr() as u64 },
            count: u32::try_from(count).expect("a batch is far smaller"),
            map_fd: self.raw(),
            elem_flags: 0,
            flags: 0,
        }
    }

    fn raw(&self) -> u32 {
        self.fd.as_raw_fd().cast_unsigned()
    }
}

/// Waits until every program that runs now has returned: programs run inside an RCU read section, and the global
/// command of `membarrier(2)` is the kernel's `synchronize_rcu` (Linux 4.3).
///
/// # Errors
/// What the kernel said, apart from a kernel with nohz_full, which offers nothing of the kind: there it waits 50 ms.
pub(super) fn barrier() -> io::Result<()> {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINVAL) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
                Ok(())
            }
            error => Err(error),
        },
    }
}

fn unsupported(error: &io::Error) -> bool {
    // ENOTSUPP (524) never was meant for user space, but that is what maps without batches answer.
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | 524))
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: `attr` is a `repr(C)` prefix of `union bpf_attr` of the size that is passed; the pointers in it are to
    // buffers of the map's key and value sizes (asserted by the callers), which live across the call.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
