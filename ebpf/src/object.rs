//! What each object of programs ends with, whether it ships or serves tests and `bench`: a panic handler and a licence.

/// Never reached: nothing in the programs panics, or the verifier would refuse the call.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers that look up sockets, and others, are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
