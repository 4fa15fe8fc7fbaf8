//! `datapath::Kernel` by BPF helpers.
use crate::{maps::SETTINGS, packet::Skb, tables::Maps};
use abi::{Addr, flow::Tuple};
use aya_ebpf::{
    bindings::{
        BPF_F_TUNINFO_IPV6, BPF_FIB_LOOKUP_OUTPUT, bpf_fib_lookup as FibParams, bpf_sock, bpf_sock_tuple,
        bpf_tunnel_key,
    },
    helpers::generated::{
        bpf_fib_lookup, bpf_get_prandom_u32, bpf_jiffies64, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_get_tunnel_key,
        bpf_skc_lookup_tcp,
    },
};
use core::mem::{MaybeUninit, size_of};
use datapath::{
    Frame, Kernel, Packet, Tables,
    kernel::Tunnel,
    parse::{TCP, UDP},
};

/// Address family number.
pub const AF_INET: u8 = 2;
/// Address family number.
pub const AF_INET6: u8 = 10;
/// `bpf_fib_lookup`: there is a route; the neighbour is not known yet, which `bpf_redirect_neigh` will see to.
const FIB_NO_NEIGHBOUR: i64 = 7;
/// Sockets of this network namespace: `BPF_F_CURRENT_NETNS`, -1 as a signed 32-bit number.
const CURRENT_NETNS: u64 = u64::MAX;

impl Kernel for Skb {
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: no arguments.
        unsafe { bpf_get_prandom_u32() as u32 }
    }

    #[inline(always)]
    fn fib(&self, src: Addr, dst: Addr) -> Option<u32> {
        // SAFETY: all zeros is a valid value of this C struct.
        let mut params: FibParams = unsafe { MaybeUninit::zeroed().assume_init() };
        params.ifindex = self.ifindex();
        if dst.is_v4() {
            params.family = AF_INET;
            params.__bindgen_anon_3.ipv4_src = src.v4_word();
            params.__bindgen_anon_4.ipv4_dst = dst.v4_word();
        } else {
            params.family = AF_INET6;
            params.__bindgen_anon_3.ipv6_src = src.0;
            params.__bindgen_anon_4.ipv6_dst = dst.0;
        }
        // SAFETY: the context is the packet's, the struct lives on the stack with its own size.
        let answer = unsafe { bpf_fib_lookup(self.skb().cast(), &raw mut params, size_of::<FibParams>() as i32, 0) };
        (answer == 0 || answer == FIB_NO_NEIGHBOUR).then_some(params.ifindex)
    }

    #[inline(always)]
    fn neighbour(&self, addr: Addr) -> Option<[u8; 6]> {
        // SAFETY: all zeros is a valid value of this C struct.
        let mut params: FibParams = unsafe { MaybeUninit::zeroed().assume_init() };
        ask_out(self, setting(|s| &s.nic_ifindex), &addr, &mut params).then_some(params.dmac)
    }

    #[inline(always)]
    fn sender(&self) -> [u8; 6] {
        let half = |at| self.half(at).unwrap_or(0).to_ne_bytes();
        let ([a, b], [c, d], [e, f]) = (half(6), half(8), half(10));
        [a, b, c, d, e, f]
    }

    #[inline(always)]
    fn tunnel(&self) -> Option<Tunnel> {
        // SAFETY: all zeros is a valid value of this C struct.
        let mut key: bpf_tunnel_key = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the context is the packet's, the struct lives on the stack with its own size.
        let answer = unsafe { bpf_skb_get_tunnel_key(self.skb(), &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0) };
        if answer == 0 {
            // SAFETY: IPv4 was asked for (no flag), so this is the field that was filled; host byte order.
            let source = unsafe { key.__bindgen_anon_1.remote_ipv4 };
            return Some(Tunnel { source: Addr::v4(source.to_be()), vni: key.tunnel_id });
        }
        let (size, flags) = (size_of::<bpf_tunnel_key>() as u32, u64::from(BPF_F_TUNINFO_IPV6));
        // SAFETY: as above. The kernel refuses to give an outer header of the family that was not asked for.
        let answer = unsafe { bpf_skb_get_tunnel_key(self.skb(), &raw mut key, size, flags) };
        // SAFETY: IPv6 was asked for; network byte order.
        (answer == 0).then(|| Tunnel { source: Addr(unsafe { key.__bindgen_anon_1.remote_ipv6 }), vni: key.tunnel_id })
    }

    #[inline(always)]
    fn segment(&self, packet: &Packet) -> u32 {
        // SAFETY: a field of the program's context.
        let payload = unsafe { (*self.skb()).gso_size };
        if payload == 0 {
            return packet.len;
        }
        // At constant places, since the stack of the last stage has no room for a copy; after IPv4 options or extension
        // headers, of which stacks make no segments, TCP counts as having no options.
        let data = match packet.l4 {
            34 => self.byte(46),
            54 => self.byte(66),
            _ => None,
        };
        let tcp = u32::from(data.unwrap_or(0x50) >> 4) * 4;
        packet.l4 + if packet.proto == TCP { tcp } else { 8 } + payload
    }

    #[inline(always)]
    fn dont_fragment(&self) -> bool {
        self.byte(20).is_some_and(|flags| flags & 0x40 != 0)
    }

    #[inline(always)]
    fn socket_takes(&self, tuple: &Tuple, proto: u8) -> bool {
        // SAFETY: all zeros is a valid value of this C union.
        let mut key: bpf_sock_tuple = unsafe { MaybeUninit::zeroed().assume_init() };
        // The kernel tells the family by the size.
        let size = if tuple.dst.is_v4() {
            key.__bindgen_anon_1.ipv4.saddr = tuple.src.v4_word();
            key.__bindgen_anon_1.ipv4.daddr = tuple.dst.v4_word();
            key.__bindgen_anon_1.ipv4.sport = tuple.sport;
            key.__bindgen_anon_1.ipv4.dport = tuple.dport;
            12
        } else {
            key.__bindgen_anon_1.ipv6.saddr = tuple.src.0;
            key.__bindgen_anon_1.ipv6.daddr = tuple.dst.0;
            key.__bindgen_anon_1.ipv6.sport = tuple.sport;
            key.__bindgen_anon_1.ipv6.dport = tuple.dport;
            36
        };
        let context = self.skb().cast();
        let socket: *mut bpf_sock = match proto {
            // SAFETY: context and tuple are valid; the reference is given back below.
            TCP => unsafe { bpf_skc_lookup_tcp(context, &raw mut key, size, CURRENT_NETNS, 0) },
            // SAFETY: as above.
            UDP => unsafe { bpf_sk_lookup_udp(context, &raw mut key, size, CURRENT_NETNS, 0) },
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: the look-up gave this reference.
        unsafe { bpf_sk_release(socket.cast()) };
        true
    }
}

/// One of the node's constants, for code outside the stages.
#[inline(always)]
pub fn setting<T: Copy>(pick: impl FnOnce(&abi::config::Settings) -> &T) -> T {
    let _ = &SETTINGS;
    Maps.setting(pick)
}

/// Asks the kernel for the link addresses of the way out by a device; `params`, all zeros, takes the answer. False if it goes by
/// another device, or the neighbour is not known. Behind a router the answer names the router's address, and is of its link.
#[inline(always)]
pub fn ask_out(skb: &Skb, ifindex: u32, to: &Addr, params: &mut FibParams) -> bool {
    params.ifindex = ifindex;
    if to.is_v4() {
        params.family = AF_INET;
        params.__bindgen_anon_4.ipv4_dst = to.v4_word();
    } else {
        params.family = AF_INET6;
        params.__bindgen_anon_4.ipv6_dst = to.0;
    }
    let (size, flags) = (size_of::<FibParams>() as i32, BPF_FIB_LOOKUP_OUTPUT);
    // SAFETY: the context is the packet's, and the struct has its own size.
    let answer = unsafe { bpf_fib_lookup(skb.skb().cast(), &raw mut *params, size, flags) };
    // Before 6.6 an entry that is not resolved is told too, with no address.
    answer == 0 && params.ifindex == ifindex && params.dmac != [0; 6]
}
