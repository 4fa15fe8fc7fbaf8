//! `weft-cni`.
fn main() {}
