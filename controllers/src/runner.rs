//! Runs the controllers: one thread feeds the [`Snapshot`](crate::snapshot::Snapshot) from lists and a watch, a few workers reconcile and write.
//!
//! The only part of this crate with threads and clocks; its world is behind [`Api`]. Rules that the controllers rely on:
//! - A key is never reconciled on a snapshot older than its own last write, so no controller keeps expectations.
//! - A key runs once at a time; what changes meanwhile runs it again.
//! - A failure is retried with exponential back-off, a conflict as soon as the snapshot is newer.
//! - A panic in a controller costs that key a retry, nothing else.
//!
//! It holds no state that matters: after a restart everything is derived from the objects again.

mod events;
mod feed;
mod queue;
mod work;

use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::JoinHandle,
};

use crate::{
    action::Action,
    controller::Controller,
    settings::Settings,
    snapshot::{Kind, Snapshot},
};

/// The API server as the runner needs it. Calls may block; they come from the runner's own threads.
pub trait Api: Send + Sync {
    /// Every resource whose objects can be listed, watched and deleted, custom ones included: the garbage collector and
    /// the namespace controller look at all of them. Events are left out by the runner itself. When the set changes,
    /// the watch in progress ends with [`WatchEvent::Expired`].
    fn kinds(&self) -> Vec<Kind>;

    /// All objects of a resource (`pods`, `deployments.apps`), each with its `metadata.resourceVersion`, and the
    /// revision of the list. Reads the newest state.
    fn list(&self, resource: &str) -> (u64, Vec<Arc<[u8]>>);

    /// Changes after revision `from`, of all the resources *in the order of their revisions* (owners before dependents,
    /// a namespace's deletion after its last create). Sends `Progress` once all that had happened at the call was sent, and may
    /// send more later. Dropping the receiver ends it.
    fn watch(&self, resources: &[&str], from: u64) -> Receiver<WatchEvent>;

    /// Executes one action in the name of a controller and returns the resourceVersion of the result (of the deletion
    /// for deletes; 0 if nothing changed). Never sees `Event`, `IfFailed` and `RequeueAfter`.
    fn execute(&self, controller: &str, action: &Action) -> Result<u64, ApiError>;
}

/// What a watch says.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// An object came, changed or went.
    Change {
        /// The revision of this change.
        revision: u64,
        /// `pods`, `deployments.apps`, …
        resource: Arc<str>,
        /// The object's JSON; for a deletion its last state.
        object: Arc<[u8]>,
        /// It is gone.
        deleted: bool,
    },
    /// Everything up to this revision was sent.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// The watch cannot go on (410, or the set of resources changed): list again.
    Expired,
}

/// A refused or failed action: the three parts of a metav1.Status that decide what happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// `Conflict`, `AlreadyExists`, `NotFound`, …
    pub reason: String,
    /// For people.
    pub message: String,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Starts all controllers. They run until `stop` becomes true; the handle is done when all threads are.
pub fn run(api: Arc<dyn Api>, settings: Settings, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    run_controllers(api, settings, stop, crate::all())
}

/// Like [`run`], for chosen controllers.
pub fn run_controllers(
    api: Arc<dyn Api>,
    settings: Settings,
    stop: Arc<AtomicBool>,
    controllers: Vec<Controller>,
) -> JoinHandle<()> {
    let workers = settings.workers.max(1);
    let shared = Arc::new(Shared {
        queue: queue::Queue::new(&controllers),
        snapshot: RwLock::new(Snapshot::new(settings)),
        events: events::Sender::default(),
        controllers,
        api,
        stop,
    });
    spawn("controllers", move || {
        let workers: Vec<_> = (0..workers)
            .map(|i| {
                let shared = Arc::clone(&shared);
                spawn(&format!("controllers-{i}"), move || work::run(&shared))
            })
            .collect();
        let recorder = {
            let shared = Arc::clone(&shared);
            spawn("controller-events", move || events::run(&shared))
        };
        feed::run(&shared);
        shared.queue.wake();
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a controller worker ended by panic");
            }
        }
        if recorder.join().is_err() {
            tracing::error!("the event recorder ended by panic");
        }
    })
}

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(f).expect("the process may start threads")
}

/// What the feeding thread and the workers share.
struct Shared {
    api: Arc<dyn Api>,
    controllers: Vec<Controller>,
    snapshot: RwLock<Snapshot>,
    queue: queue::Queue,
    events: events::Sender,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
