//! The node side: pods to real containers, and the kubelet's duties to the API server.

pub mod cni;
pub mod image;
pub mod runtime;

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
