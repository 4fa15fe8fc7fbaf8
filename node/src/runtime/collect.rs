//! CNI's GC: at the start and now and then, the network plugins are told which attachments are valid, as containerd 2 does.
//!
//! What they hold beyond these was left by a node that died between a plugin's work and its own record, or by a DEL that
//! never came. A record is written before ADD and stays until DEL has worked, so the records are what is valid.
use std::sync::Arc;
use std::time::Duration;

use super::embedded::Inner;
use super::records::SandboxRecord;
use crate::cni;

/// Between two calls that worked.
const OFTEN: Duration = Duration::from_secs(300);
/// After one that did not, or could not be made.
const AGAIN: Duration = Duration::from_secs(10);

/// Calls for ever.
pub(super) async fn keep(inner: Arc<Inner>) {
    loop {
        let pause = match collect(&inner).await {
            Ok(true) => OFTEN,
            Ok(false) | Err(cni::Error::NotInitialized { .. }) => AGAIN,
            Err(error) => {
                tracing::warn!(
                    error = crate::error_text(&error),
                    "the network plugins could not be told what is valid; trying again"
                );
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One call. False if an interface is being made: that would have to wait, and is not to be taken for a leftover.
///
/// # Errors
/// That there is no network yet, or what a plugin said.
pub(super) async fn collect(inner: &Inner) -> Result<bool, cni::Error> {
    let Ok(_alone) = inner.network.try_write() else { return Ok(false) };
    let conflist = inner.settings.cni.conflist()?;
    let of_network = |record: &SandboxRecord| {
        let its = record.conflist.as_ref();
        !record.released && its.is_none_or(|its| its["name"] == conflist["name"])
    };
    let mut valid = inner.sandboxes_that(of_network);
    valid.sort_unstable();
    inner.settings.cni.gc(&conflist, &valid).await.map(|()| true)
}
