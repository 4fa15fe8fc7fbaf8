//! When to start a child again that has ended. Pure: the caller owns the clock.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A child that lived this long had started well.
const SETTLED: Duration = Duration::from_secs(30);

/// Delay before the next start; doubles with each early end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: FIRST }
    }
}

impl Backoff {
    /// Delay after an end, given how long the child had lived.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.next = FIRST;
        }
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lives_ms: &[u64], last_delay_ms: u64) {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = lives_ms.iter().map(|ms| backoff.after(Duration::from_millis(*ms))).collect();
        assert_eq!(delays.last(), Some(&Duration::from_millis(last_delay_ms)), "{lives_ms:?}");
    }

    #[test]
    fn delays() {
        check(&[0], 200);
        check(&[0, 0], 400);
        check(&[0; 20], 10_000);
        check(&[0, 0, 0, 30_000], 200);
        check(&[0, 0, 0, 30_000, 0], 400);
    }
}
