//! The order in which keys may run.

use super::*;

fn queue(concurrency: Concurrency) -> Queue {
    let controller = Controller {
        name: "test",
        watches: &[],
        keys: |_, _| Vec::new(),
        reconcile: |_, _, _| Vec::new(),
        priority: None,
        concurrency,
    };
    let queue = Queue::new(&[controller]);
    queue.pause(false);
    queue
}

fn item(name: &str) -> Item {
    Item { controller: 0, key: Key::new("", name) }
}

const SOON: Duration = Duration::from_millis(1);

#[test]
fn a_key_runs_once_and_again_if_it_changed_meanwhile() {
    let queue = queue(Concurrency::PerKey);
    queue.add([(item("a"), 0), (item("a"), 0)]);
    assert_eq!(queue.next(SOON), Some(item("a")));
    queue.add([(item("a"), 0)]);
    assert_eq!(queue.next(SOON), None, "it runs already");
    queue.done(item("a"), &Outcome::default(), 0);
    assert_eq!(queue.next(SOON), Some(item("a")));
    queue.done(item("a"), &Outcome::default(), 0);
    assert_eq!(queue.next(SOON), None);
    assert!(queue.lock().entries.is_empty(), "idle keys are forgotten");
}

#[test]
fn a_key_waits_for_its_own_write() {
    let queue = queue(Concurrency::PerKey);
    queue.observed(5);
    queue.add([(item("a"), 0)]);
    queue.next(SOON);
    queue.done(item("a"), &Outcome { wrote: 7, ..Outcome::default() }, 0);
    queue.add([(item("a"), 0), (item("b"), 0)]);
    assert_eq!(queue.next(SOON), Some(item("b")));
    queue.observed(6);
    assert_eq!(queue.next(SOON), None);
    queue.observed(7);
    assert_eq!(queue.next(SOON), Some(item("a")));
}

#[test]
fn a_serial_controller_takes_the_higher_priority_and_waits_for_all_its_writes() {
    let queue = queue(Concurrency::Serial);
    queue.add([(item("low"), 1), (item("high"), 9), (item("low-later"), 1)]);
    assert_eq!(queue.next(SOON), Some(item("high")));
    assert_eq!(queue.next(SOON), None, "one at a time");
    queue.done(item("high"), &Outcome { wrote: 3, ..Outcome::default() }, 9);
    assert_eq!(queue.next(SOON), None, "its write is not observed");
    queue.observed(3);
    assert_eq!(queue.next(SOON), Some(item("low")));
}

#[test]
fn failures_back_off() {
    assert_eq!(back_off(1), Duration::from_millis(5));
    assert_eq!(back_off(2), Duration::from_millis(10));
    assert_eq!(back_off(18), Duration::from_micros(655_360_000));
    assert_eq!(back_off(40), MAX_BACK_OFF);
    let queue = queue(Concurrency::PerKey);
    queue.add([(item("a"), 0)]);
    queue.next(SOON);
    queue.done(item("a"), &Outcome { verdict: Verdict::Failed, ..Outcome::default() }, 0);
    assert_eq!(queue.next(Duration::ZERO), None);
    assert_eq!(queue.next(Duration::from_secs(5)), Some(item("a")));
}
