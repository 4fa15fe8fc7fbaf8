//! The emulated machine: boots, lets the guest's console through, and counts what its tests say.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{TESTS, kernel::Kernel};
use crate::{gate::Count, places::Places};

/// The whole guest, from power on to power off.
const DEADLINE: Duration = Duration::from_secs(25 * 60);
/// What the guest's own words begin with.
const WORD: &str = "weft-vm: ";

/// Ends the machine however the run ends.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the guest told so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    count: Count,
    /// Steps with the code that each ended with.
    ended: Vec<(String, i32)>,
    done: bool,
}

pub(super) fn boot(places: &Places, kernel: &Kernel, initrd: &Path) -> anyhow::Result<Count> {
    let mut machine = start(kernel, initrd)?;
    let console = machine.0.stdout.take().context("the pipe of the console")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let mut report = Report::default();
    let path = places.target.join("vm/console.log");
    let mut log = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let end = Instant::now() + DEADLINE;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        report.line(&line);
        if shown(&line) {
            println!("  {line}");
        }
        writeln!(log, "{line}").with_context(|| format!("writing {}", path.display()))?;
    }
    drop(machine);
    report.finish().with_context(|| format!("the guest's console is in {}", path.display()))
}

fn start(kernel: &Kernel, initrd: &Path) -> anyhow::Result<Machine> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Never KVM: a nested one may be there and break (seen: QEMU aborts on a model register), and then there is no fallback.
    qemu.args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "3072", "-nographic", "-no-reboot"]);
    qemu.args(["-nic", "none", "-kernel"]).arg(&kernel.image).arg("-initrd").arg(initrd);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 oops=panic rdinit=/init"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    qemu.spawn().map(Machine).context("starting qemu-system-x86_64")
}

/// A passing test's own output is of no interest here; it is in the log.
fn shown(line: &str) -> bool {
    let of_tests = line.starts_with("test ") || line.starts_with("test result: ") || line.contains(crate::gate::SKIP);
    of_tests || line.contains(WORD.trim_end()) || line.contains("panicked at") || line.contains("error")
}

impl Report {
    fn line(&mut self, line: &str) {
        self.count.line(line);
        let Some(said) = line.trim().strip_prefix(WORD) else { return };
        let words: Vec<&str> = said.split_whitespace().collect();
        match words.as_slice() {
            ["end", name, code, ..] => self.ended.push(((*name).to_owned(), code.parse().unwrap_or(-1))),
            ["done"] => self.done = true,
            _ => {}
        }
    }

    /// A step that fails without counting a test is one failure, and so is one that never ended.
    fn finish(mut self) -> anyhow::Result<Count> {
        if !self.done {
            let last = self.ended.last().map_or("boot", |(name, _)| name);
            bail!(
                "the guest did not come to its end within {} minutes; the last step that ended: {last}",
                DEADLINE.as_secs() / 60
            );
        }
        let steps = TESTS.iter().map(|test| test.test).chain(["pod", "down"]);
        for step in steps {
            match self.ended.iter().find(|(name, _)| name == step) {
                Some((_, 0)) => self.count.passed += u32::from(matches!(step, "pod" | "down")),
                Some((_, code)) => {
                    println!("  step {step} ended with {code}");
                    self.count.failed += 1;
                }
                None => bail!("the guest did not run the step {step}"),
            }
        }
        Ok(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_what_the_guest_says() {
        let mut report = Report::default();
        for line in
            ["weft-vm: begin netns", "test result: ok. 6 passed; 0 failed; 0 ignored;", "weft-vm: end netns 0 12.5 s"]
        {
            report.line(line);
        }
        assert_eq!(report.ended, [("netns".to_owned(), 0)]);
        assert_eq!(report.count.passed, 6);
        assert!(report.finish().is_err(), "it never said that it was done");
    }
}
