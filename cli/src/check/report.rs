//! The table that a check prints, and the exit code in it.

/// One promise.
#[derive(Debug)]
struct Line {
    promise: String,
    broken: Vec<String>,
    tried: usize,
}

/// What was checked.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<Line>,
}

/// At most so many failures are told of one promise.
const TOLD: usize = 8;

impl Report {
    /// A promise, how often it was tried, and every try that broke it. No try breaks it too: nothing was shown.
    pub(super) fn add(&mut self, promise: impl Into<String>, tried: usize, broken: Vec<String>) {
        self.lines.push(Line { promise: promise.into(), broken, tried });
    }

    /// Another report's promises as one.
    pub(super) fn merge(&mut self, promise: impl Into<String>, other: Report) {
        let tried = other.lines.iter().map(|line| line.tried).sum();
        let broken = other.lines.into_iter().flat_map(|line| line.broken).collect();
        self.add(promise, tried, broken);
    }

    /// True if every promise held.
    pub(super) fn holds(&self) -> bool {
        self.lines.iter().all(|line| line.broken.is_empty() && line.tried > 0)
    }

    /// Prints the table to standard output.
    pub(super) fn print(&self) {
        let width = self.lines.iter().map(|line| line.promise.chars().count()).max().unwrap_or(0);
        println!("\n{:<width$}  {:>6}  RESULT", "CHECK", "TRIES");
        for line in &self.lines {
            let result = match (line.broken.len(), line.tried) {
                (0, 0) => "FAILED: nothing was tried".to_owned(),
                (0, _) => "ok".to_owned(),
                (broken, _) => format!("FAILED: {broken}"),
            };
            println!("{:<width$}  {:>6}  {result}", line.promise, line.tried);
            for text in line.broken.iter().take(TOLD) {
                println!("{:width$}          {text}", "");
            }
        }
        let failed = self.lines.iter().filter(|line| !line.broken.is_empty() || line.tried == 0).count();
        match failed {
            0 => println!("\nall {} checks hold", self.lines.len()),
            _ => println!("\n{failed} of {} checks failed", self.lines.len()),
        }
    }
}
