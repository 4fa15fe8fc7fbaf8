//! Answers to a pod's ARP requests: every address that it may ask for is behind the gateway.
//!
//! A pod has a permanent neighbour for its gateway and never needs to ask; tools and unusual images do.
use crate::{Frame, parse::ETHERTYPE_ARP};

/// A request as bytes 14 to 42 of the packet hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Sender's protocol address, as in the packet.
    pub sender: u32,
    /// The address asked for.
    pub target: u32,
}

/// An ARP request for IPv4 over Ethernet (RFC 826), if the packet is one.
#[inline(always)]
pub fn request(frame: &impl Frame) -> Option<Request> {
    const HARDWARE_AND_PROTOCOL: u32 = 0x0001_0800_u32.to_be();
    const LENGTHS_AND_REQUEST: u32 = 0x0604_0001_u32.to_be();
    let target = far(frame.half(38)?, frame.half(40)?);
    if frame.half(12)? != ETHERTYPE_ARP
        || far(frame.half(14)?, frame.half(16)?) != HARDWARE_AND_PROTOCOL
        || far(frame.half(18)?, frame.half(20)?) != LENGTHS_AND_REQUEST
    {
        return None;
    }
    let sender = far(frame.half(28)?, frame.half(30)?);
    // A pod that asks for its own address looks for a double; nobody shall answer that.
    if sender == 0 || sender == target { None } else { Some(Request { sender, target }) }
}

#[inline(always)]
const fn far(a: u16, b: u16) -> u32 {
    let (a, b) = (a.to_ne_bytes(), b.to_ne_bytes());
    u32::from_ne_bytes([a[0], a[1], b[0], b[1]])
}
