//! What the allocator keeps: little, since nodes are full of agents.
//!
//! glibc gives each of many threads a heap of its own and hands nothing back from inside one. An agent whose devices are
//! made by threads of their own kept 30 MiB more so with a thousand pods.
#![expect(unsafe_code, reason = "the allocator's settings are calls into C")]

/// Heaps that all threads share.
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// At the start, before there are threads.
pub fn keep_little() {
    // SAFETY: it takes two integers and changes a setting of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

/// Hands back to the kernel what is free.
pub fn hand_back() {
    // SAFETY: it takes an integer, and moves nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
