//! Patches: RFC 6902 (JSON patch), RFC 7386 (merge patch) and Kubernetes' strategic merge patch.
//!
//! All three are functions of the document and the patch. Server-side apply is not here yet. The server applies a patch to
//! the JSON of the requested version and then decodes the result as it would a PUT.

mod json;
mod merge;
mod strategic;

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;
