//! What a namespace's network is asked, so that before and after can be held against each other.

/// All that `ip` knows of it and that does not change by itself.
pub const QUESTIONS: [&str; 8] = [
    "ip -o link",
    "ip -o addr",
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
    "ip neigh show nud permanent",
    "ip -6 neigh show nud permanent",
];
