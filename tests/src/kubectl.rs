//! Stock kubectl, in every version that lies here.
use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::built::succeeded;

/// Minor versions that must work.
const SUPPORTED: std::ops::RangeInclusive<u32> = 27..=33;
/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every kubectl 1.27 to 1.33 in a directory of PATH or behind a link there, by minor version; a lone one of unknown version
/// as 0.
fn lying_here() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let link = directory.join("kubectl");
        let Ok(real) = link.canonicalize() else { continue };
        for entry in real.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let minor = name.strip_prefix("kubectl.1.").and_then(|minor| minor.parse::<u32>().ok());
            if let Some(minor) = minor.filter(|minor| SUPPORTED.contains(minor)) {
                found.entry(minor).or_insert_with(|| entry.path());
            }
        }
        if found.is_empty() {
            found.insert(0, link);
        }
    }
    if found.is_empty() {
        // Past the test harness, which keeps what a test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no kubectl on the PATH: its part of the test did not run");
    }
    found
}

/// One kubectl a minor version.
pub fn all() -> Vec<PathBuf> {
    lying_here().into_values().collect()
}

/// The kubectls 1.N of these; the first that lies here if there are none of them.
pub fn versions(minors: &[u32]) -> Vec<PathBuf> {
    let here = lying_here();
    let found: Vec<PathBuf> = minors.iter().filter_map(|minor| here.get(minor)).cloned().collect();
    if found.is_empty() { here.into_values().take(1).collect() } else { found }
}

/// A kubectl, its cluster and its namespace.
pub struct Kubectl {
    /// The program.
    pub program: PathBuf,
    /// Of the cluster.
    pub kubeconfig: PathBuf,
    /// Where it works; empty: as objects and kubeconfig say.
    pub namespace: String,
}

impl Kubectl {
    /// In a namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Kubectl {
        Kubectl { namespace: namespace.to_owned(), ..self }
    }

    /// Its command line up to here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        if !self.namespace.is_empty() {
            command.args(["--namespace", &self.namespace]);
        }
        command
    }

    /// Runs with this input.
    ///
    /// # Panics
    /// If kubectl does not start.
    pub fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // A command that reads nothing closes the pipe.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("kubectl ends");
        writer.join().expect("no panic");
        output
    }

    /// What it prints.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn good(&self, words: &[&str]) -> String {
        succeeded(&format!("{} {words:?}", self.program.display()), &self.run(words, b""))
    }

    /// What it prints for a line without quotes, each of `expected` in it.
    ///
    /// # Panics
    /// If it fails, or a part is missing.
    #[track_caller]
    pub fn says(&self, line: &str, expected: &[&str]) -> String {
        let text = self.good(&line.split_whitespace().collect::<Vec<_>>());
        for part in expected {
            assert!(text.contains(part), "{} {line}: no {part:?} in\n{text}", self.program.display());
        }
        text
    }

    /// Runs a line that ends with 1 and says `expected`.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn refused(&self, line: &str, expected: &str) {
        let output = self.run(&line.split_whitespace().collect::<Vec<_>>(), b"");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let right = output.status.code() == Some(1) && text.contains(expected);
        assert!(right, "{line}: {}, expected 1 and {expected:?}, got\n{text}", output.status);
    }

    /// Runs a line until what it prints satisfies.
    ///
    /// # Panics
    /// If it does not within a minute.
    #[track_caller]
    pub fn until(&self, line: &str, satisfied: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(&line.split_whitespace().collect::<Vec<_>>(), b"");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && satisfied(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{line}: not so after {PATIENCE:?}:\n{text}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Applies manifests.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        succeeded("kubectl apply", &self.run(&["apply", "-f", "-"], manifests.as_bytes()));
    }

    /// As a line for a shell.
    pub fn line(&self, words: &[&str]) -> String {
        format!("{} --kubeconfig {} {}", self.program.display(), self.kubeconfig.display(), words.join(" "))
    }
}
