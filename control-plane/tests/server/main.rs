//! The API server as its clients meet it: over TLS, on a port of its own, with a store of its own.
//!
//! `client` starts one in this process and talks to it; `kubectl` runs the real one where there is one, and says so
//! loudly where there is none.
mod auth;
mod client;
mod controllers;
mod durability;
mod families;
mod kubectl;
mod nodes;
mod objects;
mod services;
mod watches;
