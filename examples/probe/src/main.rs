//! A network probe that up --check runs in pods: echoes, dials, pings
fn main() {}
