//! Fragments: later ones follow the first (design section 2; RFC 791, RFC 8200 section 4.5).
//!
//! The first fragment leaves its ports in `FRAGS`; a later one takes them from there and is from then on a packet of the
//! flow like any other, but that nothing of a transport header is rewritten in it. One that comes before its first is
//! dropped: nothing is queued here, and senders send the first one first.
use crate::{
    State, Tables,
    parse::{FIRST, KIND_FLOW, LATER},
    timeout,
};
use abi::{
    DropReason,
    fragment::{Fragment, FragmentKey},
    timeout::Timeout,
};

/// Remembers a first fragment, or gives a later one its ports.
#[inline(always)]
pub fn follow(tables: &impl Tables, state: &mut State) -> Result<(), DropReason> {
    let packet = &mut state.packet;
    let key = FragmentKey {
        src: packet.tuple.src,
        dst: packet.tuple.dst,
        id: packet.id,
        device: state.device,
        proto: packet.proto,
        pad: [0; 3],
    };
    if packet.fragment == LATER {
        let first = tables.fragment(&key).ok_or(DropReason::Fragment)?;
        if state.now.saturating_sub(first.created) > timeout::jiffies(tables, Timeout::Fragments) {
            return Err(DropReason::Fragment); // Another packet's, which had this number before.
        }
        (packet.tuple.sport, packet.tuple.dport) = (first.sport, first.dport);
    } else if packet.fragment == FIRST && packet.kind == KIND_FLOW {
        let (sport, dport) = (packet.tuple.sport, packet.tuple.dport);
        tables.put_fragment(&key, &Fragment { created: state.now, sport, dport, pad: 0 });
    }
    Ok(())
}
