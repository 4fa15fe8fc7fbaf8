//! The API server: HTTP, storage, authentication, authorization, admission; it runs the controllers in process.
//!
//! An object's way in: `http` → `authn` → `authz` → `registry` (with `admission`, and `api` for what a kind means) →
//! `storage`. Its way out: `storage::cache` → `serve` → every reader. `server` puts it together.

pub mod admission;
pub mod allocators;
pub mod authn;
pub mod authz;
mod controller_api;
pub mod http;
pub mod kubelet;
pub mod pki;
mod projection;
pub mod ranges;
pub mod registry;
pub mod serve;
pub mod server;
pub mod storage;
