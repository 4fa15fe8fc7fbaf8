//! Past the extension headers of IPv6 to the transport.
use super::{FIRST, Frame, LATER, WHOLE};
use abi::DropReason;

/// Extension header: options for every hop.
pub(super) const HOP_BY_HOP: u8 = 0;
/// Extension header: hops to go by.
pub(super) const ROUTING: u8 = 43;
/// Extension header: which part of its packet this is.
pub(super) const FRAGMENT: u8 = 44;
/// Extension header: options for the destination.
pub(super) const DESTINATION: u8 = 60;

/// Extension headers that one packet may have; more are nobody's honest packet.
const EXTENSIONS: u32 = 6;

/// What the extension headers lead to.
pub(super) struct End {
    /// The transport's number.
    pub(super) proto: u8,
    /// Where it begins.
    pub(super) at: u32,
    /// [`WHOLE`], [`FIRST`] or [`LATER`].
    pub(super) fragment: u32,
    /// The fragments' identification.
    pub(super) id: u32,
}

/// Past the extension headers from `at` on (RFC 8200 section 4).
#[inline(always)]
pub(super) fn extensions(frame: &impl Frame, proto: u8, at: u32) -> Result<End, DropReason> {
    let bad = DropReason::Malformed;
    let mut end = End { proto, at, fragment: WHOLE, id: 0 };
    for _ in 0..EXTENSIONS {
        if !matches!(end.proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Ok(end);
        }
        let [next, length, third, fourth] = frame.far_word(end.at as usize).ok_or(bad)?.to_ne_bytes();
        if end.proto == FRAGMENT {
            let later = third != 0 || fourth & 0xf8 != 0;
            if later || fourth & 1 != 0 {
                end.fragment = if later { LATER } else { FIRST };
                end.id = frame.far_word(end.at as usize + 4).ok_or(bad)?;
            }
            end.at += 8;
            if later {
                end.proto = next;
                return Ok(end); // What follows is the middle of something.
            }
        } else {
            // Segments left: the packet is for somebody else than its destination says.
            if end.proto == ROUTING && fourth != 0 {
                return Err(DropReason::UnsupportedProtocol);
            }
            end.at += (u32::from(length) + 1) * 8;
        }
        end.proto = next;
    }
    Err(DropReason::UnsupportedProtocol)
}
