//! `cargo xtask bench`: whatever is missing, then the bench, which prints its tables, keeps them under `target/bench`, and
//! writes those of a whole run into docs/performance.md.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{build, clock::Clock, places::Places, setup, shell};

/// Flags that make a run one that the document does not get.
const PARTIAL: [&str; 2] = ["--quick", "--document"];

pub(crate) fn run(places: &Places, mut clock: Clock, flags: &[String]) -> anyhow::Result<()> {
    if !setup::is_root() {
        bail!("the bench makes namespaces and loads BPF programs: run it as root (sudo)");
    }
    setup::run(places, &mut clock)?;
    setup::bench(&mut clock)?;
    build::run(places, &mut clock)?;
    clock.step("building the bench", |progress| {
        shell::run(progress, shell::workspace(&places.root, "build", &["--bin", "bench"])).map(|_| ())
    })?;
    let mut bench = shell::clean(Command::new(places.programs().join("bench")), &places.root);
    bench.arg("--json").arg(places.target.join("bench")).arg("--object").arg(places.bpf_object());
    bench.arg("--programs").arg(places.programs());
    if !flags.iter().any(|flag| PARTIAL.iter().any(|partial| flag.starts_with(partial))) {
        bench.arg("--document").arg(places.root.join("docs/performance.md"));
    }
    bench.args(flags);
    let result = clock.step("bench", |progress| {
        progress.hand_over();
        match bench.status().context("starting the bench")? {
            status if status.success() => Ok(()),
            // It has said what is wrong.
            status => bail!("the bench ended with {status}"),
        }
    });
    clock.report();
    result
}
