//! Exponential back-off by key, in the kubelet's two shapes: restarts of containers and pulls of images. Pure: the caller
//! tells the time.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// The first delay.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay; an entry that has been quiet for twice as long is forgotten.
const LONGEST: SignedDuration = SignedDuration::from_secs(300);

/// Delays of one pod's containers and images.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// How long `key`, which failed at `failed`, still has to wait at `now`, with its whole delay; `None` if it may go on.
    pub(crate) fn remaining(
        &self,
        key: &str,
        failed: Timestamp,
        now: Timestamp,
    ) -> Option<(SignedDuration, SignedDuration)> {
        let entry = self.entries.get(key).filter(|entry| !entry.is_old(failed))?;
        let left = entry.delay - now.duration_since(failed);
        (left > SignedDuration::ZERO).then_some((left, entry.delay))
    }

    /// Counts a failure at `failed`: the next delay is twice the last.
    pub(crate) fn count(&mut self, key: &str, failed: Timestamp) {
        let old = self.entries.get(key).filter(|entry| !entry.is_old(failed));
        let delay = old.map_or(FIRST, |entry| (entry.delay * 2).min(LONGEST));
        self.entries.insert(key.to_owned(), Entry { delay, updated: failed });
    }

    /// Forgets a key: it has succeeded.
    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

impl Entry {
    fn is_old(self, at: Timestamp) -> bool {
        at.duration_since(self.updated) > LONGEST * 2
    }
}

/// A duration as Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    /// Failures at the given seconds, then the delay left at the last of them.
    #[track_caller]
    fn check(failures: &[i64], expected: Option<i64>) {
        let mut backoff = Backoff::default();
        let (last, before) = failures.split_last().expect("at least one");
        for failed in before {
            backoff.count("c", at(*failed));
        }
        let left = backoff.remaining("c", at(*last), at(*last)).map(|(left, _)| left.as_secs());
        assert_eq!(left, expected);
    }

    #[test]
    fn delays_double_up_to_five_minutes() {
        check(&[0], None);
        check(&[0, 1], Some(10));
        check(&[0, 1, 20], Some(20));
        check(&[0, 1, 20, 50], Some(40));
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8], Some(300));
        check(&[0, 1, 602], None);
    }

    #[test]
    fn time_counts() {
        let mut backoff = Backoff::default();
        backoff.count("c", at(0));
        assert_eq!(
            backoff.remaining("c", at(5), at(8)).map(|(left, whole)| (left.as_secs(), whole.as_secs())),
            Some((7, 10))
        );
        assert_eq!(backoff.remaining("c", at(5), at(15)), None);
        backoff.forget("c");
        assert_eq!(backoff.remaining("c", at(5), at(5)), None);
    }

    #[test]
    fn printed_as_go_does() {
        let cases = [(10, "10s"), (80, "1m20s"), (300, "5m0s")];
        for (seconds, text) in cases {
            assert_eq!(go_duration(SignedDuration::from_secs(seconds)), text);
        }
    }
}
