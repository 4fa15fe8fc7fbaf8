//! How long a flow lives after its last packet: every constant in one place, for the datapath, which treats an expired row
//! as a miss, and for the agent's sweep, which makes room.
use crate::flow::{FIN, FlowValue, PROMOTED, RST, SEEN};

/// A TCP connection whose handshake is not complete, seconds.
pub const TCP_OPENING: u64 = 60;
/// An established TCP connection: longer than two keepalive periods of Linux' default.
pub const TCP_ESTABLISHED: u64 = 15_000;
/// One side has closed; the other may still send for long.
pub const TCP_HALF_CLOSED: u64 = 3_600;
/// Both sides have closed, or one has reset.
pub const TCP_CLOSED: u64 = 30;
/// UDP and ICMP before they are promoted.
pub const DATAGRAM: u64 = 60;
/// UDP and ICMP with packets both ways.
pub const DATAGRAM_ESTABLISHED: u64 = 180;
/// Packets both ways over this time promote a UDP or ICMP flow.
pub const DATAGRAM_PROMOTE: u64 = 2;
/// A packet's later fragments follow its first no longer than this; Linux gives up to put it together at the same time.
pub const FRAGMENTS: u64 = 30;

/// IP protocol number.
const TCP: u8 = 6;

/// Seconds that the row outlives its last packet.
#[inline(always)]
pub fn seconds(value: &FlowValue, proto: u8) -> u64 {
    let both = SEEN | SEEN << 1;
    if proto != TCP {
        return if value.flags & PROMOTED == 0 { DATAGRAM } else { DATAGRAM_ESTABLISHED };
    }
    let fins = value.seen & (FIN | FIN << 1);
    if value.seen & (RST | RST << 1) != 0 || fins == FIN | FIN << 1 {
        TCP_CLOSED
    } else if fins != 0 {
        TCP_HALF_CLOSED
    } else if value.flags & PROMOTED != 0 || value.seen & both == both {
        TCP_ESTABLISHED
    } else {
        TCP_OPENING
    }
}
