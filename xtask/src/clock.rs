//! Steps with their time: a spinner on a terminal, plain lines otherwise, and at the end where the time went.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of one run.
pub(crate) struct Clock {
    start: Instant,
    steps: Vec<(String, Duration)>,
}

/// What a step shows while it runs.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
    name: String,
    start: Instant,
    last_line: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now(), steps: Vec::new() }
    }

    /// Runs one step under its name.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Progress) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut progress = Progress::begin(name);
        let result = work(&mut progress);
        let took = progress.start.elapsed();
        progress.end(result.is_ok(), took);
        self.steps.push((name.to_owned(), took));
        result
    }

    /// Prints where the time went; steps under a second are one line together.
    pub(crate) fn report(&self) {
        println!("\nwhere the time went:");
        let (long, short): (Vec<_>, Vec<_>) = self.steps.iter().partition(|(_, took)| took.as_secs() >= 1);
        for (name, took) in long {
            println!("  {:>7.1} s  {name}", took.as_secs_f64());
        }
        let rest: Duration = short.iter().map(|(_, took)| *took).sum();
        println!("  {:>7.1} s  {} short steps", rest.as_secs_f64(), short.len());
        println!("  {:>7.1} s  in all", self.start.elapsed().as_secs_f64());
    }
}

impl Progress {
    fn begin(name: &str) -> Progress {
        let now = Instant::now();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
            spinner.set_style(style.expect("the template is well formed"));
            spinner.set_prefix(name.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Progress { spinner, name: name.to_owned(), start: now, last_line: now }
    }

    /// The child's newest line: beside the spinner, or every half minute on a line of its own.
    pub(crate) fn line(&mut self, line: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(line.trim().to_owned()),
            None if self.last_line.elapsed() >= Duration::from_secs(30) => {
                self.last_line = Instant::now();
                eprintln!("  … {}: {} s, {}", self.name, self.start.elapsed().as_secs(), line.trim());
            }
            None => {}
        }
    }

    /// Lets a child write to the terminal itself.
    pub(crate) fn hand_over(&mut self) {
        match self.spinner.take() {
            Some(spinner) => {
                spinner.finish_and_clear();
                eprintln!("• {}", self.name);
            }
            None => eprintln!("• {}", self.name),
        }
    }

    fn end(&self, good: bool, took: Duration) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        let mark = if good { "✓" } else { "✗" };
        eprintln!("{mark} {} ({:.1} s)", self.name, took.as_secs_f64());
    }
}
