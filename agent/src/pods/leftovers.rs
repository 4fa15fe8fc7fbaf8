//! What nobody will ask about any more: found after a start, by CNI's GC, and by a slow sweep while the agent runs
//! (`leaks`). All three free it the same way.
//!
//! Calls about the same interface go on meanwhile. Whoever makes one writes its entry first and its device then, and removes
//! them the other way round; so devices are read before the ledger, and what looks left over is looked at again under the
//! interface's lock.
use std::{collections::BTreeSet, path::Path, sync::atomic::Ordering::Relaxed};

use abi::event::Hook;

use super::{PodError, Pods, Use, attachment, interface};
use crate::{
    ipam::Entry,
    leaks::Freed,
    netlink::{Link, NetlinkError},
    netns,
    snapshot::Attachment,
};

/// Devices without an entry that one sweep has seen, by their numbers: the next one removes them. An agent of another
/// version, or an administrator, may be at work.
#[derive(Debug, Default)]
pub struct Strays(BTreeSet<u32>);

/// True if no pod has the interface any more: its device is gone with the namespace, or the namespace is held by
/// somebody, but has no name any more.
fn is_gone(entry: &Entry, link: Option<&Link>) -> bool {
    link.is_none() || netns::is_removed(Path::new(&entry.netns))
}

impl Pods {
    /// After a start: interfaces that are still there are known again. Others give their addresses back.
    ///
    /// # Errors
    /// [`PodError`].
    pub async fn recover(&self) -> Result<usize, PodError> {
        let links = self.netlink.links().await?;
        let mut kept = 0;
        for entry in self.entries() {
            let listed = links.iter().find(|link| link.name == entry.device).cloned();
            // A list that is made while devices come and go may lack one.
            let link = if listed.is_some() { listed } else { self.netlink.link(&entry.device).await? };
            match link {
                Some(link) if !is_gone(&entry, Some(&link)) => {
                    self.inbox.attach(attachment(&entry, &link));
                    kept += 1;
                }
                _ => self.free(&entry).await?,
            }
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

    /// Frees what nobody owns, while calls go on; goes on past what cannot be freed.
    ///
    /// # Errors
    /// [`PodError`] of the first thing that cannot be freed.
    pub async fn sweep(&self, strays: &mut Strays, freed: &Freed) -> Result<(), PodError> {
        let attachments = self.inbox.snapshot().attachments;
        let links = self.netlink.links().await?;
        let entries = self.entries();
        let mut result = Ok(());
        for entry in &entries {
            if is_gone(entry, links.iter().find(|link| link.name == entry.device)) {
                result = result.and(self.sweep_entry(entry, freed).await);
            }
        }
        for attachment in attachments.iter() {
            if !entries.iter().any(|entry| entry.is(&attachment.container_id, &attachment.ifname)) {
                self.sweep_attachment(attachment, freed).await;
            }
        }
        result = result.and(self.sweep_devices(&links, &entries, strays, freed).await);
        result.and(self.sweep_pins(freed))
    }

    async fn sweep_entry(&self, entry: &Entry, freed: &Freed) -> Result<(), PodError> {
        let _held = self.hold(&entry.container_id, &entry.ifname).await;
        let same = self.ledger().get(&entry.container_id, &entry.ifname) == Some(entry);
        if same && is_gone(entry, self.netlink.link(&entry.device).await?.as_ref()) {
            self.free(entry).await?;
            freed.addresses.fetch_add(entry.addresses.len() as u64, Relaxed);
        }
        Ok(())
    }

    async fn sweep_attachment(&self, attachment: &Attachment, freed: &Freed) {
        let Attachment { container_id, ifname, .. } = attachment;
        let _held = self.hold(container_id, ifname).await;
        // A DEL between the two looks has taken both away itself.
        let is_left = || self.inbox.snapshot().attachments.contains(attachment);
        if self.ledger().get(container_id, ifname).is_none() && is_left() {
            tracing::warn!(pod = %attachment.pod, container = %container_id, "the tables had an interface that nobody has");
            self.inbox.detach(container_id, ifname);
            freed.interfaces.fetch_add(1, Relaxed);
        }
    }

    async fn sweep_devices(
        &self,
        links: &[Link],
        entries: &[Entry],
        strays: &mut Strays,
        freed: &Freed,
    ) -> Result<(), PodError> {
        let mut seen = BTreeSet::new();
        let mut result = Ok(());
        for link in links.iter().filter(|link| interface::is_device(&link.name)) {
            if entries.iter().any(|entry| entry.device == link.name) {
                continue;
            }
            if !strays.0.contains(&link.index) {
                seen.insert(link.index);
                continue;
            }
            // By its number: a device that has the name by now is another one.
            match self.netlink.remove_link(link).await {
                Ok(_) => {
                    tracing::warn!(device = link.name, "a device of no pod is removed");
                    freed.devices.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    seen.insert(link.index);
                    result = result.and(Err(error.into()));
                }
            }
        }
        strays.0 = seen;
        result
    }

    /// Under the programs' lock, which whoever pins takes once the device is there.
    fn sweep_pins(&self, freed: &Freed) -> Result<(), PodError> {
        let programs = self.programs();
        for device in programs.devices().into_iter().filter(|device| interface::is_device(device)) {
            if nix::net::if_::if_nametoindex(device.as_str()).is_err() {
                tracing::warn!(device, "pins of a device that is gone are removed");
                programs.forget(&device)?;
                freed.pins.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    async fn free(&self, entry: &Entry) -> Result<(), PodError> {
        let pod = format!("{}/{}", entry.namespace, entry.name);
        tracing::info!(pod, container = entry.container_id, addresses = ?entry.addresses, "the sandbox is gone; its addresses are free");
        self.undo(entry, Use::Maybe).await
    }
}
