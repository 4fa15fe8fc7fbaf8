//! Interfaces that nobody will ask about any more: found after a start, and by CNI's GC. Their addresses are free then.
use std::path::Path;

use abi::event::Hook;

use super::{PodError, Pods, Use, attachment};
use crate::{
    ipam::Entry,
    netlink::{Link, NetlinkError},
    netns,
};

impl Pods {
    /// After a start: interfaces whose host end is still there are known again. Others give their addresses back, and so do
    /// those whose sandbox is gone while somebody still holds its network namespace: its name was removed.
    ///
    /// # Errors
    /// [`PodError`].
    pub async fn recover(&self) -> Result<usize, PodError> {
        let links = self.netlink.links().await?;
        let find = |entry: &Entry| links.iter().find(|link| link.name == entry.device);
        let mut kept = 0;
        for entry in self.entries() {
            let link = find(&entry).filter(|_| !netns::is_removed(Path::new(&entry.netns)));
            if let Some(link) = link {
                self.inbox.attach(attachment(&entry, link));
                kept += 1;
                continue;
            }
            let pod = format!("{}/{}", entry.namespace, entry.name);
            tracing::info!(pod, container = entry.container_id, addresses = ?entry.addresses, "the sandbox is gone; its addresses are free");
            self.undo(&entry, Use::Maybe).await?;
        }
        Ok(kept)
    }

    /// Puts the hooks back onto an interface's device that has lost a filter of ours: without it a pod's packets go unjudged.
    pub(crate) async fn mend(&self, container_id: &str, ifname: &str) {
        let _held = self.hold(container_id, ifname).await;
        let Some(entry) = self.ledger().get(container_id, ifname).cloned() else { return };
        let Ok(Some(link)) = self.netlink.link(&entry.device).await else { return };
        if self.programs().by_tcx(Hook::FromPod, &link.name)
            || self.our_filters(&link).await.is_ok_and(|ours| ours == 2)
        {
            return;
        }
        let pod = format!("{}/{}", entry.namespace, entry.name);
        match self.hooks(&entry.device) {
            Ok(()) => tracing::warn!(pod, device = entry.device, "somebody removed our filters: they are back"),
            Err(error) => {
                tracing::error!(pod, device = entry.device, error = crate::chain(&error), "our filters are gone");
            }
        }
    }

    /// How many filters of ours are on a device.
    pub(super) async fn our_filters(&self, link: &Link) -> Result<usize, NetlinkError> {
        Ok(self.netlink.filters(link).await?.iter().filter(|filter| filter.is_ours()).count())
    }

    /// Removes every interface but those that `keep` names; goes on past one that cannot be removed.
    ///
    /// # Errors
    /// [`PodError`] of the first that cannot be removed.
    pub async fn collect(&self, keep: impl Fn(&Entry) -> bool) -> Result<usize, PodError> {
        let gone: Vec<Entry> = self.ledger().entries().iter().filter(|entry| !keep(entry)).cloned().collect();
        let mut result = Ok(());
        for entry in &gone {
            let pod = format!("{}/{}", entry.namespace, entry.name);
            tracing::info!(pod, container = entry.container_id, addresses = ?entry.addresses, "nobody's any more: released");
            result = result.and(self.release(entry).await);
        }
        result.map(|()| gone.len())
    }
}
