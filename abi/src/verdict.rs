//! Why a packet is dropped: numbers are an interface and append-only; text and metric label derive from this one table.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal, $text:literal;)*) => {
        /// Why a packet was dropped. Every drop is counted by reason and hook, and told once more as an event.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum DropReason { $(#[doc = $text] $(#[$doc])* $name = $number,)* }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The metric label and the word in `weft monitor`.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)* }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$name => $text,)* }
            }

            /// From the number in a counter or an event.
            pub const fn from_number(number: u8) -> Option<DropReason> {
                match number { $($number => Some(DropReason::$name),)* _ => None }
            }
        }
    };
}

drop_reasons! {
    Malformed = 1, "malformed", "The packet is shorter than its headers say, or its header is not valid.";
    UnsupportedProtocol = 2, "unsupported_protocol", "Neither IP nor ARP, a transport other than TCP, UDP and ICMP, or a routing header with hops to go.";
    Fragment = 3, "fragment", "A fragment that carries no transport header and whose first one is not known.";
    PodNotReady = 4, "pod_not_ready", "The pod's policy is not in force yet.";
    SpoofedSource = 5, "spoofed_source", "The source is not an address of the pod that sent it.";
    PolicyDeniedIngress = 6, "policy_denied_ingress", "No ingress rule of a policy that isolates the receiving pod allows it.";
    PolicyDeniedEgress = 7, "policy_denied_egress", "No egress rule of a policy that isolates the sending pod allows it.";
    NoBackend = 8, "no_backend", "The service has no ready endpoint.";
    UnknownService = 9, "unknown_service", "The address is in the Service range, and no service has that address and port.";
    UnknownPod = 10, "unknown_pod", "The address is in the cluster's pod range, and no pod or node owns it.";
    OverlaySource = 11, "overlay_source", "An overlay packet whose outer source is not the node that owns its inner source.";
    PodToOverlay = 12, "pod_to_overlay", "A pod sent to the overlay port of a node.";
    OwnAddressFromOutside = 13, "own_address_from_outside", "A packet from outside carries an address of this cluster as its source.";
    NoPort = 14, "no_port", "No free source port is left for the translation.";
    FlowTableFull = 15, "flow_table_full", "The flow could not be recorded, and without a record its translation cannot be undone.";
    NoRoute = 16, "no_route", "The kernel knows no route to the destination.";
    TtlExceeded = 17, "ttl_exceeded", "The time to live ran out.";
    TableMissing = 18, "table_missing", "A table row that another row names is missing: a defect, please report it.";
    EditFailed = 19, "edit_failed", "The kernel refused to rewrite or redirect the packet.";
    WrongDevice = 20, "wrong_device", "A packet of a known flow came in by another device than the flow's.";
    StaleFlow = 21, "stale_flow", "A packet of a flow whose backend or pod is gone, and that cannot be resolved again.";
    LinkChatter = 22, "link_chatter", "Neighbour or router discovery and multicast membership, which no one behind this device needs.";
    RogueRouter = 23, "rogue_router", "A router advertisement or redirect from a pod: pods are no routers.";
    RogueDhcp = 24, "rogue_dhcp", "A DHCP server's packet from a pod that nobody asked.";
    WrongMac = 25, "wrong_mac", "The source MAC address is not the pod's that sent it.";
    EgressLimit = 26, "egress_limit", "The pod sends more than its limit (kubernetes.io/egress-bandwidth) allows.";
    NativeSource = 27, "native_source", "A packet without an outer header carries the source of another node's pod, and its link address is not that node's.";
    TooBig = 28, "packet_too_big", "The packet is larger than its way carries, and cannot be split; its sender is told (at most 1,000 times a second).";
}

/// Counters per reason: one past the highest number, so that the array is indexed without a branch.
pub const REASONS: u32 = 64;

// The last rows count what is kept half-open.
const _: () = assert!(DropReason::ALL.len() + crate::event::Kept::ALL.len() < REASONS as usize);

#[cfg(test)]
mod tests {
    use super::DropReason;

    #[test]
    fn numbers_go_up_without_gaps_and_come_back() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1);
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
            assert!(reason.label().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }
}
