//! What a long command is doing: a spinner on a terminal, plain lines otherwise, and where the time went.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of one command. The next step ends the one before.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    done: Vec<(String, Duration)>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    name: String,
    start: Instant,
    noted: Instant,
    spinner: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { start: Instant::now(), done: Vec::new(), current: None }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, name: impl Into<String>) {
        self.end('✓');
        let (name, now) = (name.into(), Instant::now());
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}");
            spinner.set_style(style.expect("the template is well formed"));
            spinner.set_prefix(name.clone());
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        self.current = Some(Current { name, start: now, noted: now, spinner });
    }

    /// What the step waits for: beside the spinner, or every ten seconds on a line of its own.
    pub(crate) fn note(&mut self, text: &str) {
        let Some(current) = &mut self.current else { return };
        match &current.spinner {
            Some(spinner) => spinner.set_message(text.to_owned()),
            None if current.noted.elapsed() >= Duration::from_secs(10) => {
                current.noted = Instant::now();
                let text: String = text.chars().take(160).collect();
                eprintln!("  … {}: {} s, {text}", current.name, current.start.elapsed().as_secs());
            }
            None => {}
        }
    }

    /// Ends the last step well.
    pub(crate) fn finish(&mut self) {
        self.end('✓');
    }

    fn end(&mut self, mark: char) {
        let Some(current) = self.current.take() else { return };
        let took = current.start.elapsed();
        if let Some(spinner) = current.spinner {
            spinner.finish_and_clear();
        }
        eprintln!("{mark} {} ({:.1} s)", current.name, took.as_secs_f64());
        self.done.push((current.name, took));
    }

    /// Time of each step and of all, a line each.
    pub(crate) fn times(&self) -> String {
        let lines = self.done.iter().map(|(name, took)| format!("  {:>6.1} s  {name}\n", took.as_secs_f64()));
        format!("{}  {:>6.1} s  in all", lines.collect::<String>(), self.start.elapsed().as_secs_f64())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end('✗');
    }
}
