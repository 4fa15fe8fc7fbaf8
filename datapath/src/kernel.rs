//! What the kernel lends to the stages, apart from the tables.
use crate::Packet;
use abi::{Addr, flow::Tuple};

/// Where an overlay packet came from, as its outer header said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// Outer source address.
    pub source: Addr,
    /// VNI.
    pub vni: u32,
}

/// Services of the kernel (or of a model of it) for the packet in hand.
pub trait Kernel {
    /// Jiffies since boot.
    fn now(&self) -> u64;
    /// A random number, not for secrets.
    fn random(&self) -> u32;
    /// The device by which the routing table sends a packet of this node to `dst`; none if there is no route.
    fn fib(&self, src: Addr, dst: Addr) -> Option<u32>;
    /// The link address that a machine on the NIC's segment has, as far as it is known.
    fn neighbour(&self, addr: Addr) -> Option<[u8; 6]>;
    /// The link address that the packet claims to come from.
    fn sender(&self) -> [u8; 6];
    /// The outer header that the overlay device took off this packet.
    fn tunnel(&self) -> Option<Tunnel>;
    /// Bytes of the longest packet that this one becomes on a wire, link header included: stacks hand down many segments
    /// as one packet, which is cut up at the very end.
    fn segment(&self, packet: &Packet) -> u32;
    /// IPv4's flag that forbids to split the packet.
    fn dont_fragment(&self) -> bool;
    /// True if a socket of the host would take a packet of this tuple.
    fn socket_takes(&self, tuple: &Tuple, proto: u8) -> bool;
}
