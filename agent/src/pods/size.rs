//! The MTU of pods' interfaces, followed while they run.
use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use super::{PodError, Pods};
use crate::{ipam::Entry, netlink::Link, netns};

impl Pods {
    /// Gives every interface, and those that come, this MTU. Those that could not be made as small, with theirs.
    pub async fn fit(&self, mtu: u32) -> BTreeMap<objects::Key, u32> {
        self.mtu.store(mtu, Ordering::Relaxed);
        let links = self.netlink.links().await.unwrap_or_else(|error| {
            tracing::warn!(mtu, error = crate::chain(&error), "pods' interfaces keep the MTU that they have for now");
            Vec::new()
        });
        let links: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let mut larger = BTreeMap::new();
        for entry in self.entries() {
            let Some(link) = links.get(entry.device.as_str()).filter(|link| link.mtu != mtu) else { continue };
            let _held = self.hold(&entry.container_id, &entry.ifname).await;
            let Err(error) = self.resize(&entry, link, mtu).await else { continue };
            let pod = objects::Key::new(entry.namespace.as_str(), entry.name.as_str());
            tracing::warn!(%pod, mtu, error = crate::chain(&error), "the MTU of a pod's interface cannot be changed");
            if link.mtu > mtu {
                larger.insert(pod, link.mtu);
            }
        }
        larger
    }

    /// Both ends, the smaller one never the receiver of what the larger one sends: it would drop that without a word. The
    /// host's end is the last to shrink, so it tells whether all went well.
    pub(super) async fn resize(&self, entry: &Entry, near: &Link, mtu: u32) -> Result<(), PodError> {
        if mtu > near.mtu {
            self.netlink.set_mtu(near, mtu).await?;
        }
        let inside = netns::connect(Path::new(&entry.netns)).await?;
        if let Some(link) = inside.link(&entry.ifname).await? {
            inside.set_mtu(&link, mtu).await?;
        }
        if mtu < near.mtu {
            self.netlink.set_mtu(near, mtu).await?;
        }
        Ok(())
    }
}
