//! What needs root, a kernel or several crates
