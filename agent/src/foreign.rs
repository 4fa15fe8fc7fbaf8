//! Programs, filters and queues of others on pods' devices, and our own filters there if somebody removes them.
//!
//! What the datapath hands straight to a pod goes around whatever hangs on the way out of its device. A pod whose device has
//! something of somebody else's there gets a plain redirect instead (`QUEUED` in its row), as one with an ingress limit
//! does. The kernel tells of filters and queues over rtnetlink; of tcx programs it tells nobody, so these are looked for
//! every [`POLL`]. On the way in nothing is gone around: programs there see what a pod sends as ever.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use abi::event::Hook;
use aya::programs::{SchedClassifier, TcAttachType};
use futures::StreamExt;
use tokio::time::Instant;

use crate::{
    Shared,
    netlink::{Link, Netlink, tc},
    snapshot::Attachment,
};

/// Between two looks for tcx programs on every pod's device.
const POLL: Duration = Duration::from_secs(5);
/// So many of these, and filters and queues are looked for anyway: the kernel drops messages for a listener that is slow.
const ANYWAY: u32 = 12;
/// Changes come in bursts.
const GATHER: Duration = Duration::from_millis(20);

/// What others have on one device.
#[derive(Clone, Default)]
struct Found {
    /// tcx programs.
    programs: Vec<String>,
    /// Filters and queues.
    rest: Vec<String>,
}

/// What was found when last looked, by interface index.
pub struct Foreign {
    netlink: Netlink,
    found: BTreeMap<u32, Found>,
}

/// Whose filters and queues are looked at.
enum Of<'a> {
    /// Nobody's: tcx programs only.
    Nobody,
    /// Those of these devices.
    Some(&'a BTreeSet<u32>),
    /// All pods'.
    All,
}

impl Foreign {
    /// At the start, before the first round: a pod's row must not lose its flag for a moment.
    pub async fn at_start(shared: &Shared, netlink: Netlink) -> Foreign {
        let mut foreign = Foreign { netlink, found: BTreeMap::new() };
        foreign.look(shared, &Of::All).await;
        foreign
    }

    /// Follows for ever.
    pub async fn follow(mut self, shared: &Shared) {
        let mut told = match tc::changes() {
            Ok(told) => told.left_stream(),
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "others' filters on pods' devices are noticed late");
                futures::stream::pending().right_stream()
            }
        };
        let (mut poll, mut rounds) = (Instant::now() + POLL, 0);
        loop {
            tokio::select! {
                Some(index) = told.next() => {
                    tokio::time::sleep(GATHER).await;
                    let mut touched = BTreeSet::from([index]);
                    while let Ok(Some(index)) = tokio::time::timeout(Duration::ZERO, told.next()).await {
                        touched.insert(index);
                    }
                    self.look(shared, &Of::Some(&touched)).await;
                }
                () = tokio::time::sleep_until(poll) => {
                    rounds += 1;
                    let of = if rounds % ANYWAY == 0 { Of::All } else { Of::Nobody };
                    self.look(shared, &of).await;
                    poll = Instant::now() + POLL;
                }
            }
        }
    }

    async fn look(&mut self, shared: &Shared, of: &Of<'_>) {
        let attachments = shared.inbox.snapshot().attachments;
        self.found.retain(|index, _| attachments.iter().any(|attachment| attachment.ifindex == *index));
        let looked_at = |attachment: &&Attachment| match of {
            Of::Some(touched) => touched.contains(&attachment.ifindex),
            Of::Nobody | Of::All => true,
        };
        let of_pods: Vec<&Attachment> = attachments.iter().filter(looked_at).collect();
        if of_pods.is_empty() {
            return;
        }
        if !matches!(of, Of::Nobody) {
            self.filters(shared, &of_pods).await;
        }
        let devices = of_pods.iter().map(|attachment| (attachment.ifindex, shared.device_name(attachment.ifindex)));
        let devices: Vec<(u32, String)> = devices.collect();
        let programs = tokio::task::spawn_blocking(move || {
            devices.into_iter().map(|(index, device)| (index, programs(&device))).collect::<Vec<_>>()
        });
        for (index, programs) in programs.await.unwrap_or_default() {
            self.found.entry(index).or_default().programs = programs;
        }
        self.tell(shared, &attachments);
    }

    /// Filters and queues; and ours are put back where they are not.
    async fn filters(&mut self, shared: &Shared, of_pods: &[&Attachment]) {
        let queues = match self.netlink.queues().await {
            Ok(queues) => queues,
            Err(error) => return tracing::warn!(error = crate::chain(&error), "the queues of devices cannot be read"),
        };
        for attachment in of_pods {
            let link =
                Link { index: attachment.ifindex, name: shared.device_name(attachment.ifindex), ..Link::default() };
            // None if the device is gone, or has no clsact qdisc.
            let filters = self.netlink.filters(&link).await.unwrap_or_default();
            if filters.iter().filter(|filter| filter.is_ours()).count() < 2
                && let Some(started) = shared.started.get()
            {
                started.pods.mend(&attachment.container_id, &attachment.ifname).await;
            }
            let theirs = filters.iter().filter(|filter| filter.egress && !filter.is_ours());
            let mut rest: Vec<String> =
                theirs.map(|filter| format!("filter {} of priority {}", filter.kind, filter.priority)).collect();
            rest.dedup(); // u32 tells of its hash tables too.
            let own = limited(shared, attachment).then_some("tbf");
            rest.extend(
                queues.get(&link.index).filter(|kind| own != Some(&***kind)).map(|kind| format!("queue {kind}")),
            );
            self.found.entry(link.index).or_default().rest = rest;
        }
    }

    /// Into what the next round looks at; and into the log what is new.
    fn tell(&self, shared: &Shared, attachments: &[Attachment]) {
        let all = |found: &Found| [&found.programs[..], &found.rest[..]].concat();
        let now: BTreeMap<u32, Vec<String>> =
            self.found.iter().map(|(index, found)| (*index, all(found))).filter(|(_, all)| !all.is_empty()).collect();
        let before = shared.inbox.snapshot().foreign;
        if *before == now {
            return;
        }
        for attachment in attachments {
            let (pod, device) = (&attachment.pod, shared.device_name(attachment.ifindex));
            match (before.get(&attachment.ifindex), now.get(&attachment.ifindex)) {
                (before, Some(found)) if before != Some(found) => {
                    tracing::info!(%pod, device, ?found, "somebody else's on the pod's device: packets take the way through it");
                }
                (Some(_), None) => {
                    tracing::info!(%pod, device, "nothing of anybody else's is on the pod's device any more");
                }
                _ => {}
            }
        }
        shared.inbox.change(|state| state.foreign = Arc::new(now));
    }
}

/// True if the queue on the pod's device is ours.
fn limited(shared: &Shared, attachment: &Attachment) -> bool {
    let pods = shared.inbox.snapshot().pods;
    let pod = pods.get(&attachment.pod).map(|pod| &**pod);
    attachment.wishes.rates(pod).unwrap_or(attachment.wishes.rates)[0].is_some()
}

/// tcx programs of others on what goes out by a device; none where the kernel has no tcx.
fn programs(device: &str) -> Vec<String> {
    let Ok((_, programs)) = SchedClassifier::query_tcx(device, TcAttachType::Egress) else { return Vec::new() };
    let name = |program: &aya::programs::ProgramInfo| program.name_as_str().unwrap_or_default().to_owned();
    let theirs = programs.iter().filter(|program| name(program) != Hook::ToPod.name());
    theirs.map(|program| format!("tcx program {} ({})", name(program), program.id())).collect()
}
