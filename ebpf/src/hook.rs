//! What all hook programs share: read the packet, take the established path, or leave the rest to the stages.
use crate::{
    arp,
    finish::{discard, finish},
    maps::{PROGS, SCRATCH},
    packet::Skb,
    tables::Maps,
};
use abi::{DropReason, event::Hook};
use aya_ebpf::{bindings::TC_ACT_UNSPEC, programs::TcContext};
use core::intrinsics::cold_path;
use datapath::{
    Kernel, Outcome, Packet, Stage, State, Step, hook,
    parse::{self, Headers},
};

/// The body of a hook program.
#[inline(always)]
pub fn run(context: &TcContext, at: Hook) -> i32 {
    let skb = Skb::new(context);
    judge(context, &skb, &skb, at)
}

/// The same for a packet whose outer header the kernel may not know.
#[inline(always)]
pub fn judge(context: &TcContext, skb: &Skb, kernel: &impl Kernel, at: Hook) -> i32 {
    let number = at as u32;
    let mut packet = Packet::default();
    match parse::parse(skb, &mut packet) {
        Ok(Headers::Plain) => {}
        Ok(Headers::Far) => {
            cold_path();
            if let Some(state) = scratch() {
                state.start(at, &packet, &Maps, kernel);
                go_on(context, Stage::Read);
            }
            return discard(skb, number, &packet, DropReason::TableMissing, None);
        }
        Err(reason) => {
            cold_path();
            if matches!(at, Hook::FromPod)
                && let Some(request) = datapath::arp::request(skb)
            {
                return arp::answer(skb, &request);
            }
            return if hook::lenient(at) { TC_ACT_UNSPEC } else { discard(skb, number, &packet, reason, None) };
        }
    }
    let mut outcome = Outcome::default();
    match hook::enter(at, &Maps, kernel, &packet, &mut outcome) {
        Ok(Step::Done) => finish(skb, number, &packet, &outcome),
        Err(reason) => {
            cold_path();
            if matches!(reason, DropReason::TooBig)
                && let Some(state) = scratch()
            {
                state.start(at, &packet, &Maps, kernel);
                state.mtu = outcome.ifindex;
                go_on(context, Stage::TooBig);
            }
            discard(skb, number, &packet, reason, None)
        }
        Ok(step) => {
            cold_path();
            if let Some(state) = scratch() {
                state.start(at, &packet, &Maps, kernel);
                match step {
                    Step::Slow(stage) => go_on(context, stage),
                    _ => {
                        state.missed = 1;
                        go_on(context, Stage::Flow);
                    }
                }
            }
            discard(skb, number, &packet, DropReason::TableMissing, None)
        }
    }
}

/// This CPU's slot. tc programs do not interrupt one another, so it is one packet's at a time.
#[inline(always)]
pub fn scratch() -> Option<&'static mut State> {
    // SAFETY: a per-CPU row, and this is the only reference to it in this program.
    SCRATCH.get_ptr_mut(0).map(|state| unsafe { &mut *state })
}

/// Does not return if the stage's program is there.
///
/// One call for each stage: the kernel makes a plain jump of a tail call whose index is one constant, and an indirect one
/// behind a retpoline of any other. The compiler would merge calls that differ in nothing but the index, hence the marks
/// behind them, each of a type of its own.
#[inline(always)]
pub fn go_on(context: &TcContext, stage: Stage) {
    match stage {
        Stage::Flow => jump(context, Stage::Flow, 0_u8),
        Stage::New => jump(context, Stage::New, 0_u16),
        Stage::Policy => jump(context, Stage::Policy, 0_u32),
        Stage::Route => jump(context, Stage::Route, 0_u64),
        Stage::Record => jump(context, Stage::Record, [0_u16; 2]),
        Stage::Finish => jump(context, Stage::Finish, [0_u8; 3]),
        Stage::Read => jump(context, Stage::Read, [0_u8; 5]),
        Stage::TooBig => jump(context, Stage::TooBig, [0_u8; 7]),
        Stage::Decapsulate => jump(context, Stage::Decapsulate, [0_u8; 6]),
    }
}

#[inline(always)]
fn jump<T>(context: &TcContext, stage: Stage, mut mark: T) {
    let value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the context is the program's own; `T` is an integer or an array of them, on the stack.
    unsafe {
        PROGS.tail_call(context, stage as u32);
        core::ptr::write_volatile(&raw mut mark, value.assume_init());
    }
}
