//! The node side: pods to real containers, and the kubelet's duties to the API server.

mod backoff;
pub mod cni;
mod env;
pub mod image;
mod limits;
mod plan;
pub mod runtime;
mod status;

/// An error with its causes on one line, as events and conditions print it.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
