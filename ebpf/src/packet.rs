//! Bounds-checked loads and stores of packet bytes, and checksum edits: the only unsafe code on them.
use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{bpf_l4_csum_replace, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes},
    programs::TcContext,
};
use core::mem::size_of;
use datapath::{
    Frame, Packet,
    checksum::{change, fold32, update},
    parse::{ETHERNET, ICMP, KIND_ERROR, QUOTED, UDP, halves},
    step::Edits,
};

/// Headers that direct access wants in the linear part: link, IPv4 and TCP without options.
const HEADERS: u32 = 54;

/// A packet in a tc program.
pub struct Skb(*mut __sk_buff);

impl Skb {
    /// The packet of a program's context, its headers made linear if they are not.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Skb {
        let skb = Skb(context.skb.skb);
        let linear = skb.end() - skb.start();
        if linear < HEADERS as usize && skb.len() > linear as u32 {
            let want = if skb.len() < HEADERS { skb.len() } else { HEADERS };
            // SAFETY: the pointer is the program's context.
            unsafe { bpf_skb_pull_data(skb.0, want) };
        }
        skb
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
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
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

    /// The packet's mark.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).mark }
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
        // SAFETY: a writable field of the program's context, one word at a time as the verifier wants it.
        unsafe {
            let cb = &raw mut (*self.0).cb;
            core::ptr::write_volatile(&raw mut (*cb)[0], words[0]);
            core::ptr::write_volatile(&raw mut (*cb)[1], words[1]);
            core::ptr::write_volatile(&raw mut (*cb)[2], words[2]);
            core::ptr::write_volatile(&raw mut (*cb)[3], words[3]);
            core::ptr::write_volatile(&raw mut (*cb)[4], words[4]);
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
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the program's context.
        unsafe { (*self.0).ifindex }
    }
}

/// New link addresses: destination and source.
pub struct Link {
    /// Destination.
    pub to: [u8; 6],
    /// Source.
    pub from: [u8; 6],
}

/// Applies the edits. `None` if the kernel refused one.
#[inline(always)]
pub fn edit(skb: &Skb, packet: &Packet, edits: &Edits, link: Option<Link>) -> Option<()> {
    if edits.translate && packet.kind == KIND_ERROR {
        quoted(skb, packet, edits)?;
    } else if edits.translate {
        transport(skb, packet, edits)?;
    }
    if edits.translate || edits.decrement {
        network(skb, packet, edits)?;
    }
    if let Some(link) = link {
        let header = skb.at::<[u16; 6]>(0)?;
        // SAFETY: twelve bytes in bounds, packet data of a tc program is writable.
        unsafe {
            *header = [
                u16::from_ne_bytes([link.to[0], link.to[1]]),
                u16::from_ne_bytes([link.to[2], link.to[3]]),
                u16::from_ne_bytes([link.to[4], link.to[5]]),
                u16::from_ne_bytes([link.from[0], link.from[1]]),
                u16::from_ne_bytes([link.from[2], link.from[3]]),
                u16::from_ne_bytes([link.from[4], link.from[5]]),
            ];
        }
    }
    Some(())
}

/// Ports and the transport checksum. The addresses' share goes in as a pseudo-header change, so that checksums which
/// the device or the receiver completes stay right; ports are payload to such a checksum.
#[inline(always)]
fn transport(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let (old, new) = (&packet.tuple, &edits.to);
    if packet.proto == ICMP {
        if old.sport == new.sport {
            return Some(());
        }
        replace(skb, packet.l4 + 2, u64::from(old.sport), u64::from(new.sport), 2)?;
        return store(skb, packet.l4 + 4, new.sport);
    }
    let field = packet.l4 + if packet.proto == UDP { 6 } else { 16 };
    // A UDP checksum of zero means none and stays so.
    let zero = if packet.proto == UDP { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
    let addresses = change(old.src.v4_word(), new.src.v4_word()) + change(old.dst.v4_word(), new.dst.v4_word());
    replace(skb, field, 0, u64::from(fold32(addresses)), u64::from(BPF_F_PSEUDO_HDR) | zero)?;
    if old.sport != new.sport {
        replace(skb, field, u64::from(old.sport), u64::from(new.sport), 2 | zero)?;
        store(skb, packet.l4, new.sport)?;
    }
    if old.dport != new.dport {
        replace(skb, field, u64::from(old.dport), u64::from(new.dport), 2 | zero)?;
        store(skb, packet.l4 + 2, new.dport)?;
    }
    Some(())
}

/// The packet that an ICMP error quotes, translated back. Its header's sum stays the same, so only the ports change the
/// error's checksum; the quoted transport checksum is left, since nobody can verify a packet that is cut off.
#[inline(always)]
fn quoted(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let (old, new) = (packet.tuple.reversed(), edits.to.reversed());
    let ports = if packet.proto == ICMP { QUOTED + 24 } else { QUOTED + 20 } as u32;
    replace(skb, packet.l4 + 2, u64::from(old.sport), u64::from(new.sport), 2)?;
    store(skb, ports, new.sport)?;
    if packet.proto != ICMP {
        replace(skb, packet.l4 + 2, u64::from(old.dport), u64::from(new.dport), 2)?;
        store(skb, ports + 2, new.dport)?;
    }
    let (ttl, sum) = halves(skb.far_word(QUOTED + 8)?);
    let (src, dst) = (new.src.v4_word(), new.dst.v4_word());
    let sum = update(sum, change(old.src.v4_word(), src) + change(old.dst.v4_word(), dst));
    store_words(skb, QUOTED as u32 + 8, [u32::from(ttl) | u32::from(sum) << 16, src, dst])
}

/// Three words anywhere in the packet.
#[inline(always)]
fn store_words(skb: &Skb, offset: u32, words: [u32; 3]) -> Option<()> {
    // SAFETY: the helper checks the packet's bounds; the source is twelve bytes on the stack.
    let answer = unsafe { bpf_skb_store_bytes(skb.0.cast(), offset, words.as_ptr().cast(), 12, 0) };
    (answer == 0).then_some(())
}

#[inline(always)]
fn replace(skb: &Skb, field: u32, from: u64, to: u64, flags: u64) -> Option<()> {
    // SAFETY: the helper checks the packet's bounds.
    let answer = unsafe { bpf_l4_csum_replace(skb.0.cast(), field, from, to, flags) };
    (answer == 0).then_some(())
}

/// Two bytes of the transport header.
#[inline(always)]
fn store(skb: &Skb, offset: u32, value: u16) -> Option<()> {
    if offset as usize == ETHERNET + 20
        && let Some(field) = skb.at::<u16>(ETHERNET + 20)
    {
        // SAFETY: two bytes in bounds.
        unsafe { *field = value };
        return Some(());
    }
    // SAFETY: the helper checks the packet's bounds; the source is two bytes on the stack.
    let answer = unsafe { bpf_skb_store_bytes(skb.0.cast(), offset, (&raw const value).cast(), 2, 0) };
    (answer == 0).then_some(())
}

/// Addresses, time to live and the IPv4 header's checksum. The sum over a whole IPv4 header never changes, so nothing
/// that covers it needs to be told.
#[inline(always)]
fn network(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let header = skb.at::<[u32; 5]>(ETHERNET)?.cast::<u32>();
    let mut sum = 0;
    // SAFETY: twenty bytes in bounds; words in memory order, as `change` wants them.
    unsafe {
        if edits.translate {
            let (src, dst) = (edits.source(packet).v4_word(), edits.to.dst.v4_word());
            sum += change(packet.source.v4_word(), src) + change(packet.tuple.dst.v4_word(), dst);
            *header.add(3) = src;
            *header.add(4) = dst;
        }
        let ttl_and_sum = header.add(2).cast::<u16>();
        if edits.decrement {
            let old = *ttl_and_sum;
            let new = old.wrapping_sub(1_u16.to_le()); // The time to live is the first byte in memory.
            sum += change(u32::from(old), u32::from(new));
            *ttl_and_sum = new;
        }
        let field = header.add(2).cast::<u16>().add(1);
        *field = update(*field, sum);
    }
    Some(())
}
