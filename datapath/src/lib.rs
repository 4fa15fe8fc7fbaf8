//! Packet stages as pure functions over Tables and Kernel
