//! The web program of examples/guestbook
fn main() {}
