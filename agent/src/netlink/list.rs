//! Lists of what the kernel has, one at a time for each connection.
//!
//! While a socket has an answer in parts under way, the kernel refuses the next such request with EBUSY. Whoever comes
//! meanwhile waits here; and a list whose asker has gone is read to its end all the same.
use std::{io, sync::Arc};

use futures::{TryStream, TryStreamExt};
use rtnetlink::Handle;
use tokio::sync::Mutex;

use super::{Netlink, NetlinkError, refused};

/// Held while a list is read.
pub(super) type Turn = Arc<Mutex<()>>;

impl Netlink {
    /// All that the kernel tells to one request; `object` is what is said if it refuses.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) async fn list<T, S>(
        &self,
        object: &str,
        ask: impl FnOnce(Handle) -> S + Send + 'static,
    ) -> Result<Vec<T>, NetlinkError>
    where
        S: TryStream<Ok = T, Error = rtnetlink::Error> + Send,
        T: Send + 'static,
    {
        let (handle, turn) = (self.handle.clone(), self.turn.clone());
        let reading = tokio::spawn(async move {
            let _turn = turn.lock_owned().await;
            ask(handle).try_collect::<Vec<_>>().await
        });
        match reading.await {
            Ok(list) => list.map_err(refused("list", object)),
            Err(error) => {
                Err(NetlinkError { operation: "list", object: object.into(), source: io::Error::other(error) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::netlink::Link;

    /// The loopback device is in every namespace, and nobody's leave is needed to read.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lists_of_one_connection_do_not_meet() {
        let netlink = Netlink::open().expect("a socket");
        let lists = (0..200).map(|number| {
            let netlink = netlink.clone();
            tokio::spawn(async move {
                let lo = Link { name: "lo".into(), index: 1, ..Link::default() };
                match number % 4 {
                    0 => netlink.links().await.map(|links| assert!(links.iter().any(|link| link.name == "lo"))),
                    1 => netlink.addresses().await.map(drop),
                    2 => netlink.filters(&lo).await.map(drop),
                    // Its asker does not wait for it.
                    _ => match tokio::time::timeout(Duration::ZERO, netlink.queues()).await {
                        Ok(list) => list.map(drop),
                        Err(_) => Ok(()),
                    },
                }
            })
        });
        for list in lists.collect::<Vec<_>>() {
            list.await.expect("no panic").expect("a list");
        }
    }
}
