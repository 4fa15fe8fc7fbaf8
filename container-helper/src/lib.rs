//! One container, one helper process.
//!
//! `weft node` executes its own binary again as `weft container-helper …`: libcontainer clones raw, which deadlocks in a
//! threaded program, and a container must outlive the node process that started it. The helper is single-threaded from its
//! first instruction to its last: nothing here starts a thread or a runtime, and the command line dispatches to [`main`]
//! before it starts one.
//!
//! - `run DIR` creates and starts the container whose bundle is `DIR`, writes its log, waits for it, writes `exit.json`.
//! - `exec DIR -- COMMAND…` runs one more process in it and exits with that process's code.
//! - `sandbox …` makes a pod's namespaces and pins them as files.
//!
//! It knows nothing of pods, Kubernetes or the node: its whole interface is its arguments and the files in `DIR`.

mod bundle;
mod cgroups;
mod devices;
mod exec;
mod log;
mod run;
mod sandbox;

use std::ffi::OsString;
use std::path::Path;

/// Runs the helper and returns the process's exit code.
///
/// `args` are the words after `container-helper`; words before and including it are skipped, so the whole command line of
/// the process may be passed too.
pub fn main(args: Vec<OsString>) -> i32 {
    let first = args.iter().position(|word| word == "container-helper").map_or(0, |at| at + 1);
    let words: Vec<String> = args.into_iter().skip(first).map(|word| word.to_string_lossy().into_owned()).collect();
    match words.split_first() {
        Some((verb, rest)) if verb == "run" && rest.len() == 1 => run::run(Path::new(&rest[0])),
        Some((verb, rest)) if verb == "exec" && rest.len() > 1 => exec::exec(Path::new(&rest[0]), &rest[1..]),
        Some((verb, rest)) if verb == "sandbox" => sandbox::make(rest),
        _ => {
            eprintln!(
                "usage: container-helper run DIR | exec DIR [--] COMMAND… | sandbox [--hostname H] [--sysctl K=V]… --pin KIND=PATH…"
            );
            2
        }
    }
}
