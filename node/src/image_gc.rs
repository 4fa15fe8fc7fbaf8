//! Image garbage collection: when the image store's file system is too full, images that no container uses go, the one
//! unused for longest first, until it is no longer.
//!
//! Thresholds, ages and words are the kubelet's. A store that several nodes share (a local cluster's) must not be collected
//! by one of them, which sees its own containers only: they run with a high threshold of 100, which is never.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::context::Node;
use crate::image::Image;

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// An image that came just now may be about to be used.
const MINIMUM_AGE: Duration = Duration::from_secs(2 * 60);

/// When to begin and when to stop, in percent of the file system's size.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Thresholds {
    /// Disk usage in percent above which unused images are removed; 100 is never.
    #[arg(long = "image-gc-high-threshold", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub high: u8,
    /// Disk usage in percent that their removal aims at.
    #[arg(long = "image-gc-low-threshold", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub low: u8,
}

/// A file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    capacity: u64,
    available: u64,
}

/// An image by its id: the references that lead to it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    references: Vec<String>,
    size: u64,
}

/// Looks at the disk now and then, for as long as the node runs.
pub(crate) async fn keep(node: Arc<Node>, store: PathBuf, thresholds: Thresholds) {
    if thresholds.high == 100 {
        return;
    }
    let mut last_used = BTreeMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = collect(&node, &store, thresholds, &mut last_used).await {
            tracing::warn!(%error, "images could not be collected");
            node.events.node_warning("ImageGCFailed", error);
        }
    }
}

async fn collect(
    node: &Node,
    store: &Path,
    thresholds: Thresholds,
    last_used: &mut BTreeMap<String, Timestamp>,
) -> Result<(), String> {
    let now = Timestamp::now();
    let images = node.runtime.images().await.map_err(|error| error.text())?;
    let used: BTreeSet<String> =
        node.runtime.containers(None).into_iter().map(|container| container.image_id).collect();
    remember(last_used, &images, &used, now);
    let disk = disk(store)?;
    let wanted = to_free(disk, thresholds);
    if wanted == 0 {
        return Ok(());
    }
    let mut freed = 0;
    for unused in oldest_first(&images, &used, last_used, now) {
        if freed >= wanted {
            break;
        }
        for reference in &unused.references {
            node.runtime.remove_image(reference).await.map_err(|error| error.text())?;
        }
        tracing::info!(images = ?unused.references, bytes = unused.size, "removed, because the disk is too full");
        freed += unused.size;
    }
    if freed < wanted {
        return Err(format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        ));
    }
    Ok(())
}

fn disk(store: &Path) -> Result<Disk, String> {
    let found = nix::sys::statvfs::statvfs(store).map_err(|error| format!("statvfs {}: {error}", store.display()))?;
    Ok(Disk {
        capacity: found.blocks() * found.fragment_size(),
        available: found.blocks_available() * found.fragment_size(),
    })
}

/// The bytes above the low threshold; 0 as long as the high one is not passed.
fn to_free(disk: Disk, thresholds: Thresholds) -> u64 {
    if disk.capacity == 0 {
        return 0;
    }
    let percent = |part: u64| u128::from(part) * 100 / u128::from(disk.capacity);
    if 100 - percent(disk.available.min(disk.capacity)) < u128::from(thresholds.high) {
        return 0;
    }
    let wanted = u128::from(disk.capacity) * u128::from(100 - thresholds.low.min(100)) / 100;
    u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(disk.available)
}

/// New images count from now, used ones are used now, and those that are gone are forgotten.
fn remember(
    last_used: &mut BTreeMap<String, Timestamp>,
    images: &[(String, Image)],
    used: &BTreeSet<String>,
    now: Timestamp,
) {
    last_used.retain(|id, _| images.iter().any(|(_, image)| image.id == *id));
    for (_, image) in images {
        let at = last_used.entry(image.id.clone()).or_insert(now);
        if used.contains(&image.id) {
            *at = now;
        }
    }
}

/// Images that may go, the one that was used longest ago first.
fn oldest_first(
    images: &[(String, Image)],
    used: &BTreeSet<String>,
    last_used: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<Unused> {
    let mut unused: BTreeMap<(Timestamp, &str), Unused> = BTreeMap::new();
    for (reference, image) in images.iter().filter(|(_, image)| !used.contains(&image.id)) {
        let Some(at) = last_used.get(&image.id) else { continue };
        if Duration::try_from(now.duration_since(*at)).unwrap_or_default() < MINIMUM_AGE {
            continue;
        }
        let entry =
            unused.entry((*at, &image.id)).or_insert_with(|| Unused { references: Vec::new(), size: image.size });
        entry.references.push(reference.clone());
    }
    unused.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[track_caller]
    fn check_bytes(available: u64, expected: u64) {
        let disk = Disk { capacity: 100 * GIB, available: available * GIB };
        assert_eq!(to_free(disk, Thresholds { high: 85, low: 80 }), expected * GIB);
    }

    #[test]
    fn begins_at_the_high_threshold_and_aims_at_the_low_one() {
        check_bytes(50, 0);
        check_bytes(16, 0);
        check_bytes(15, 5);
        check_bytes(0, 20);
        assert_eq!(to_free(Disk { capacity: 0, available: 0 }, Thresholds { high: 85, low: 80 }), 0);
    }

    fn image(reference: &str, id: &str) -> (String, Image) {
        (reference.to_owned(), Image { id: id.to_owned(), layers: Vec::new(), size: 7 })
    }

    #[test]
    fn the_image_unused_for_longest_goes_first_and_a_used_one_never() {
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let images = [image("a:1", "a"), image("b:1", "b"), image("c:1", "c"), image("c:2", "c"), image("d:1", "d")];
        let used = BTreeSet::from(["a".to_owned()]);
        let mut last_used = BTreeMap::new();
        remember(&mut last_used, &images[2..4], &BTreeSet::new(), at(0));
        remember(&mut last_used, &images[..4], &used, at(100));
        remember(&mut last_used, &images, &used, at(900));
        let names = |list: Vec<Unused>| list.into_iter().map(|one| one.references.join(" ")).collect::<Vec<_>>();
        assert_eq!(names(oldest_first(&images, &used, &last_used, at(1000))), ["c:1 c:2", "b:1"], "d is too young");
    }
}
