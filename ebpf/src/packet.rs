//! Bounds-checked loads and stores of packet bytes. What is changed in them, and why, is in `edit`.
use abi::Addr;
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_skb_pull_data},
    programs::TcContext,
};
use core::mem::size_of;
use datapath::{Frame, parse::ETHERTYPE_IPV6};

/// Headers that direct access wants in the linear part: link, IPv4 and TCP without options.
const HEADERS: u32 = 54;
/// The same for IPv6. Not for all: a packet of the host's own stack has its payload elsewhere, and pulling costs.
const HEADERS6: u32 = 74;

/// A packet in a tc program.
pub struct Skb(*mut __sk_buff);

impl Skb {
    /// The packet of a program's context, its headers made linear if they are not.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Skb {
        let skb = Skb::unread(context);
        let linear = skb.end() - skb.start();
        if linear < HEADERS6 as usize && skb.len() > linear as u32 {
            skb.pull(linear);
        }
        skb
    }

    /// The same as it came: for who only asks the kernel about it.
    #[inline(always)]
    pub fn unread(context: &TcContext) -> Skb {
        Skb(context.skb.skb)
    }

    /// Makes the headers linear if they are not; kept small, since most packets never come here.
    #[inline(always)]
    fn pull(&self, linear: usize) {
        let headers = if self.protocol() == ETHERTYPE_IPV6 { HEADERS6 } else { HEADERS };
        if linear < headers as usize {
            let want = if self.len() < headers { self.len() } else { headers };
            // SAFETY: the pointer is the program's context.
            unsafe { bpf_skb_pull_data(self.0, want) };
        }
    }

    /// The kernel's own pointer.
    #[inline(always)]
    pub fn skb(&self) -> *mut __sk_buff {
        self.0
    }

    #[inline(always)]
    fn start(&self) -> usize {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn end(&self) -> usize {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).data_end as usize }
    }

    /// A pointer to `T` at a constant offset, if the linear part reaches that far.
    #[inline(always)]
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let start = self.start();
        if start + offset + size_of::<T>() > self.end() {
            return None;
        }
        Some((start + offset) as *mut T)
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        // SAFETY: in bounds; BPF loads need no alignment here, and `T` is an integer or an array of them.
        self.at::<T>(offset).map(|pointer| unsafe { *pointer })
    }

    /// The ethertype of what follows the link header, in network byte order.
    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).protocol as u16 }
    }

    /// The packet's mark.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).mark }
    }

    /// Of a packet that the kernel will cut into segments: their payload's size. Else 0.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).gso_size }
    }

    /// Sets the packet's mark.
    #[inline(always)]
    pub fn set_mark(&self, mark: u32) {
        // SAFETY: a writable field of the program's context.
        unsafe { (*self.0).mark = mark }
    }

    /// Leaves five words in the control block.
    #[inline(always)]
    pub fn set_cb(&self, words: [u32; 5]) {
        let base = self.0;
        // A pointer of its own for each word: one that is worked out once for several calls would be a context that was
        // added to, which the verifier refuses.
        // SAFETY: a writable field of the program's context, one word at a time as the verifier wants it; `base` is on the stack.
        let word = |index: usize| unsafe { &raw mut (*core::ptr::read_volatile(&raw const base)).cb[index] };
        // SAFETY: as above.
        unsafe {
            core::ptr::write_volatile(word(0), words[0]);
            core::ptr::write_volatile(word(1), words[1]);
            core::ptr::write_volatile(word(2), words[2]);
            core::ptr::write_volatile(word(3), words[3]);
            core::ptr::write_volatile(word(4), words[4]);
        }
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        self.read(at)
    }

    #[inline(always)]
    fn half(&self, at: usize) -> Option<u16> {
        self.read(at)
    }

    #[inline(always)]
    fn word(&self, at: usize) -> Option<u32> {
        self.read(at)
    }

    #[inline(always)]
    fn far_word(&self, at: usize) -> Option<u32> {
        let mut word = 0_u32;
        // SAFETY: the helper checks the packet's bounds; the target is four bytes on the stack.
        let answer = unsafe { bpf_skb_load_bytes(self.0.cast(), at as u32, (&raw mut word).cast(), 4) };
        (answer == 0).then_some(word)
    }

    #[inline(always)]
    fn far_addr(&self, at: usize) -> Option<Addr> {
        let mut addr = Addr::ANY;
        // SAFETY: the helper checks the packet's bounds; the target is sixteen bytes on the stack.
        let answer = unsafe { bpf_skb_load_bytes(self.0.cast(), at as u32, (&raw mut addr).cast(), 16) };
        (answer == 0).then_some(addr)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).ifindex }
    }
}
