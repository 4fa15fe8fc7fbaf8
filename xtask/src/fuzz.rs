//! `cargo xtask fuzz`: every fuzz target at once, each for a while, searching by coverage from the corpus.
//!
//! Our own crates are compiled with counters by a wrapper around the stable compiler (fuzz/instrument.sh); what they depend
//! on is shared with every other build. What is found goes below `target/fuzz`, never into the tree by itself.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{build, clock::Clock, places::Places, setup, shell};

/// Targets, as `fuzz/corpus` and the programs name them.
const TARGETS: [&str; 3] = ["packet", "config", "request"];

/// How long a search is, and where it begins: by a seed it finds the same each time, without one something new.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    pub(crate) seconds: u32,
    pub(crate) seed: Option<u32>,
}

pub(crate) fn run(places: &Places, clock: &mut Clock, how: Search) -> anyhow::Result<()> {
    setup::run(places, clock)?;
    setup::fuzz(clock)?;
    build::bpf(places, clock)?;
    clock.step("building the fuzz targets", |progress| {
        let mut cargo = shell::workspace(&places.root, "build", &["--features", "fuzz/search"]);
        for target in TARGETS {
            cargo.args(["--bin", &format!("fuzz-{target}")]);
        }
        cargo.env("RUSTC_WORKSPACE_WRAPPER", places.root.join("fuzz/instrument.sh"));
        shell::run(progress, cargo).map(|_| ())
    })?;
    clock.step("fuzz", |_| search(places, how))
}

/// All targets side by side.
fn search(places: &Places, how: Search) -> anyhow::Result<()> {
    let running: Vec<_> =
        TARGETS.into_iter().map(|target| Ok((target, start(places, target, how)?))).collect::<anyhow::Result<_>>()?;
    let mut broken = Vec::new();
    for (target, mut child) in running {
        let status = child.wait()?;
        let log = places.target.join("fuzz").join(format!("{target}.log"));
        let text = String::from_utf8_lossy(&fs::read(&log).with_context(|| format!("reading {}", log.display()))?)
            .into_owned();
        println!("fuzz {target}: {}", last(&text));
        if !status.success() {
            breaks(&text).for_each(|line| println!("fuzz {target}: {line}"));
            broken.push(format!("{target} ({})", log.display()));
        }
    }
    if !broken.is_empty() {
        bail!(
            "an input breaks a promise of {}: copy the unit that the log names to fuzz/crashes/TARGET/, with a name that \
             says what it is, and mend what it breaks",
            broken.join(", ")
        );
    }
    Ok(())
}

fn start(places: &Places, target: &str, how: Search) -> anyhow::Result<Child> {
    let work = places.target.join("fuzz");
    let found = work.join(target);
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    let log = File::create(work.join(format!("{target}.log")))?;
    let mut command = Command::new(places.programs().join(format!("fuzz-{target}")));
    command.arg(&found);
    for inputs in ["corpus", "crashes"].map(|part| places.root.join("fuzz").join(part).join(target)) {
        if inputs.is_dir() {
            command.arg(inputs);
        }
    }
    command.arg(format!("-max_total_time={}", how.seconds)).args(how.seed.map(|seed| format!("-seed={seed}")));
    command.arg(format!("-artifact_prefix={}/{target}-", work.display()));
    command.args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    shell::clean(command, &places.root).spawn().with_context(|| format!("starting fuzz-{target}"))
}

/// What broke, and the input that did it: who has only this output can go on from it.
fn breaks(log: &str) -> impl Iterator<Item = &str> {
    let panic = log.lines().skip_while(|line| !line.contains("panicked at")).take(2);
    panic.chain(log.lines().filter(|line| line.starts_with("Base64: ")))
}

/// What libFuzzer says last of how far it came.
fn last(log: &str) -> &str {
    log.lines().rev().find(|line| line.starts_with("Done ") || line.starts_with("SUMMARY")).unwrap_or("no result")
}

#[cfg(test)]
mod tests {
    use super::{breaks, last};

    #[test]
    fn the_last_word() {
        assert_eq!(
            last("#23 INITED\nDone 408476 runs in 61 second(s)\nstat::x: 1\n"),
            "Done 408476 runs in 61 second(s)"
        );
        assert_eq!(last("INFO: Seed"), "no result");
    }

    #[test]
    fn what_broke() {
        let log = "#1\nthread '<unnamed>' (7) panicked at a.rs:1:2:\nwhy\nstack backtrace:\nBase64: AAE=\n";
        let lines: Vec<_> = breaks(log).collect();
        assert_eq!(lines, ["thread '<unnamed>' (7) panicked at a.rs:1:2:", "why", "Base64: AAE="]);
        assert_eq!(breaks("Done 4 runs").count(), 0);
    }
}
