//! Setup, build, up, test, bench, tidy
fn main() {}
