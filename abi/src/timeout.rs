//! How long a flow lives after its last packet: the names, what holds unless the node is told otherwise, and which of
//! them a row goes by. One place for the datapath, which treats an expired row as a miss, and for the agent's sweep,
//! which makes room.
use crate::flow::{FIN, FlowValue, PROMOTED, RST, SEEN};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a flow can be in that ends by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timeout {
    /// A TCP connection whose handshake is not complete.
    TcpOpening = 0,
    /// An established TCP connection.
    TcpEstablished = 1,
    /// One side has closed; the other may still send for long.
    TcpHalfClosed = 2,
    /// Both sides have closed, or one has reset.
    TcpClosed = 3,
    /// UDP before it is promoted.
    Udp = 4,
    /// UDP with packets both ways.
    UdpEstablished = 5,
    /// ICMP echo before it is promoted.
    Icmp = 6,
    /// ICMP echo with packets both ways.
    IcmpEstablished = 7,
    /// A packet's later fragments follow its first no longer than this.
    Fragments = 8,
}

impl Timeout {
    /// Every one, by number.
    pub const ALL: [Timeout; 9] = [
        Timeout::TcpOpening,
        Timeout::TcpEstablished,
        Timeout::TcpHalfClosed,
        Timeout::TcpClosed,
        Timeout::Udp,
        Timeout::UdpEstablished,
        Timeout::Icmp,
        Timeout::IcmpEstablished,
        Timeout::Fragments,
    ];

    /// The name on command lines and in `weft status`.
    pub const fn name(self) -> &'static str {
        match self {
            Timeout::TcpOpening => "tcp-opening",
            Timeout::TcpEstablished => "tcp-established",
            Timeout::TcpHalfClosed => "tcp-half-closed",
            Timeout::TcpClosed => "tcp-closed",
            Timeout::Udp => "udp",
            Timeout::UdpEstablished => "udp-established",
            Timeout::Icmp => "icmp",
            Timeout::IcmpEstablished => "icmp-established",
            Timeout::Fragments => "fragments",
        }
    }

    /// Seconds, unless the node is told otherwise. An established connection outlives two keepalive periods of Linux'
    /// default; Linux gives up putting fragments together after 30 s, too.
    pub const fn default_seconds(self) -> u32 {
        match self {
            Timeout::TcpOpening | Timeout::Udp | Timeout::Icmp => 60,
            Timeout::TcpEstablished => 15_000,
            Timeout::TcpHalfClosed => 3_600,
            Timeout::TcpClosed | Timeout::Fragments => 30,
            Timeout::UdpEstablished | Timeout::IcmpEstablished => 180,
        }
    }
}

/// Seconds of every [`Timeout`], by its number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Timeouts(pub [u32; Timeout::ALL.len()]);

impl Timeouts {
    /// What holds unless the node is told otherwise.
    pub const DEFAULT: Timeouts = {
        let mut seconds = [0; Timeout::ALL.len()];
        let mut index = 0;
        while index < seconds.len() {
            seconds[index] = Timeout::ALL[index].default_seconds();
            index += 1;
        }
        Timeouts(seconds)
    };

    /// Seconds of one.
    pub const fn seconds(&self, timeout: Timeout) -> u32 {
        self.0[timeout as usize]
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts::DEFAULT
    }
}

/// Packets both ways over this many seconds promote a UDP or ICMP flow.
pub const DATAGRAM_PROMOTE: u64 = 2;
/// So do this many packets in a row of it, of both directions: questions and their answers are fewer.
pub const DATAGRAM_PACKETS: u64 = 16;

/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the row's state ends by. Generic over what is made of it, so that the datapath loads one constant at a place.
#[inline(always)]
pub fn of<T>(value: &FlowValue, proto: u8, pick: impl Fn(Timeout) -> T) -> T {
    let both = SEEN | SEEN << 1;
    let promoted = value.flags & PROMOTED != 0;
    if proto != TCP {
        return match (proto == UDP, promoted) {
            (true, false) => pick(Timeout::Udp),
            (true, true) => pick(Timeout::UdpEstablished),
            (false, false) => pick(Timeout::Icmp),
            (false, true) => pick(Timeout::IcmpEstablished),
        };
    }
    if closed(value) {
        pick(Timeout::TcpClosed)
    } else if value.seen & (FIN | FIN << 1) != 0 {
        pick(Timeout::TcpHalfClosed)
    } else if promoted || value.seen & both == both {
        pick(Timeout::TcpEstablished)
    } else {
        pick(Timeout::TcpOpening)
    }
}

/// Both sides of a TCP connection have closed, or one has reset.
#[inline(always)]
pub const fn closed(value: &FlowValue) -> bool {
    let fins = FIN | FIN << 1;
    value.seen & (RST | RST << 1) != 0 || value.seen & fins == fins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(proto: u8, promoted: bool, seen: u16, expected: Timeout) {
        let flags = if promoted { PROMOTED } else { 0 };
        let value = FlowValue { flags, seen, ..FlowValue::default() };
        assert_eq!(of(&value, proto, |timeout| timeout), expected);
    }

    #[test]
    fn a_row_goes_by_its_state() {
        check(TCP, false, SEEN, Timeout::TcpOpening);
        check(TCP, false, SEEN | SEEN << 1, Timeout::TcpEstablished);
        check(TCP, true, SEEN, Timeout::TcpEstablished);
        check(TCP, true, SEEN | FIN, Timeout::TcpHalfClosed);
        check(TCP, true, SEEN | FIN | FIN << 1, Timeout::TcpClosed);
        check(TCP, false, SEEN | RST << 1, Timeout::TcpClosed);
        check(UDP, false, SEEN, Timeout::Udp);
        check(UDP, true, SEEN, Timeout::UdpEstablished);
        check(1, false, SEEN, Timeout::Icmp);
        check(58, true, SEEN, Timeout::IcmpEstablished);
    }

    #[test]
    fn numbers_are_places() {
        for (index, timeout) in Timeout::ALL.into_iter().enumerate() {
            assert_eq!((timeout as usize, Timeouts::DEFAULT.seconds(timeout)), (index, timeout.default_seconds()));
        }
    }
}
