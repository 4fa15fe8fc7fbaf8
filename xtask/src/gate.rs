//! The gate that every change passes: formatting, tidy, clippy, and every test, counted.
//!
//! A test that cannot run prints a line with `SKIPPED` and why. The harness hides what passing tests print, so it is told
//! to show it, and all but those lines is hidden here. In CI one such line fails the gate.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{build, clock::Clock, fuzz, image, places::Places, setup, shell, tidy, vm};

/// What a test prints that cannot run here.
pub(crate) const SKIP: &str = "SKIPPED";

/// What each fuzz target has in CI, all of them side by side. The same search each time, so that a change is judged by what it
/// changes; to look for something new is what `cargo xtask fuzz` is for.
const FUZZ: fuzz::Search = fuzz::Search { seconds: 60, seed: Some(1) };

/// Tests that passed, failed, or did not run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

pub(crate) fn run(places: &Places, clock: &mut Clock, filter: Option<&str>, no_skips: bool) -> anyhow::Result<()> {
    setup::run(places, clock)?;
    setup::tests(places, clock)?;
    if filter.is_none() {
        check_format(places, clock)?;
        clock.step("tidy", |_| tidy::run(places))?;
    }
    build::former(places, clock)?;
    build::run(places, clock)?;
    image::run(places, clock)?;
    if filter.is_none() {
        clippy(places, clock)?;
    }
    let mut count = clock.step("tests", |progress| {
        progress.hand_over();
        tests(places, filter)
    })?;
    if filter.is_none() {
        count.add(&vm::run(places, clock)?);
    }
    println!("\n{} tests passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if count.failed > 0 {
        bail!("{} tests failed", count.failed);
    }
    if no_skips && count.skipped > 0 {
        bail!("{} tests were skipped; the lines with SKIPPED above say why", count.skipped);
    }
    if no_skips && filter.is_none() {
        fuzz::run(places, clock, FUZZ)?;
    }
    Ok(())
}

fn check_format(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    clock.step("formatting (cargo fmt --all --check)", |progress| {
        let mut cargo = shell::cargo(&places.root);
        cargo.args(["fmt", "--all", "--check"]);
        shell::run(progress, cargo).map(|_| ())
    })
}

fn clippy(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    clock.step("clippy", |progress| {
        let cargo = shell::workspace(&places.root, "clippy", &["--all-targets", "--", "-Dwarnings"]);
        shell::run(progress, cargo).map(|_| ())
    })
}

fn tests(places: &Places, filter: Option<&str>) -> anyhow::Result<Count> {
    let mut cargo = shell::workspace(&places.root, "test", &["--no-fail-fast"]);
    cargo.args(filter).args(["--", "--show-output"]);
    cargo.env("WEFT_PROGRAMS", places.programs()).env("WEFT_IMAGES", places.images());
    cargo.env("WEFT_CNI_PLUGINS", setup::cni_plugins(places)).env("WEFT_DEBIAN", places.cache.join("debian"));
    cargo.env("PATH", setup::path(places)?);
    let (status, count) = counted(cargo)?;
    if !status.success() && count.failed == 0 {
        bail!("cargo test: {status}");
    }
    Ok(count)
}

/// Runs the command, lets its output through, and counts on the way.
fn counted(mut command: Command) -> anyhow::Result<(std::process::ExitStatus, Count)> {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("starting cargo test")?;
    drop(command);
    let mut count = Count::default();
    let mut of_passed = false;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading from a pipe")?;
        let line = String::from_utf8_lossy(&line);
        count.line(&line);
        of_passed = line == "successes:" || (of_passed && line != "failures:" && !line.starts_with("test result: "));
        if !of_passed || line.contains(SKIP) {
            println!("{line}");
        }
    }
    Ok((child.wait()?, count))
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Adds what a line of a test harness says.
    pub(crate) fn line(&mut self, line: &str) {
        if line.contains(SKIP) {
            self.skipped += 1;
        }
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u32>), words.next()) else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], passed: u32, failed: u32, skipped: u32) {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.line(line));
        assert_eq!(count, Count { passed, failed, skipped });
    }

    #[test]
    fn counts() {
        check(&["running 2 tests", "test a ... ok"], 0, 0, 0);
        check(
            &["test result: ok. 6 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.2s"],
            6,
            0,
            1,
        );
        check(
            &["SKIPPED: needs root", "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out"],
            5,
            1,
            1,
        );
    }
}
