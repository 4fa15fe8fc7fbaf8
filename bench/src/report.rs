//! Tables: as text for people, as Markdown for the document, as JSON for machines. One source for all three.
use std::{fmt, fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use crate::machine::Machine;

/// A part of the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    /// Of the JSON file and of the markers in the document.
    pub(crate) name: &'static str,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Its tables.
    pub(crate) tables: Vec<Table>,
}

/// A table of figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    /// What it says, and in which unit.
    pub(crate) title: String,
    /// Heads of the columns after the first.
    pub(crate) columns: Vec<String>,
    /// Its rows.
    pub(crate) rows: Vec<Row>,
    /// How it was measured.
    pub(crate) notes: Vec<String>,
}

/// A row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured, and whose it is.
    pub(crate) name: String,
    /// By column; nothing where there is nothing to say.
    pub(crate) cells: Vec<Option<Cell>>,
}

/// A figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cell {
    /// The figure.
    pub(crate) value: f64,
    /// Decimals that mean something.
    #[serde(skip)]
    pub(crate) decimals: usize,
}

impl Cell {
    /// A figure without decimals.
    pub(crate) fn whole(value: f64) -> Option<Cell> {
        Some(Cell { value, decimals: 0 })
    }

    /// A figure with two.
    pub(crate) fn fine(value: f64) -> Option<Cell> {
        Some(Cell { value, decimals: 2 })
    }
}

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Table { title: title.to_owned(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, cells: Vec<Option<Cell>>) {
        self.rows.push(Row { name: name.into(), cells });
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Heads and rows as words.
    fn words(&self) -> Vec<Vec<String>> {
        let head = std::iter::once(String::new()).chain(self.columns.iter().cloned()).collect();
        let cell = |cell: &Option<Cell>| cell.map_or_else(|| "–".to_owned(), |c| format!("{:.*}", c.decimals, c.value));
        let row = |row: &Row| std::iter::once(row.name.clone()).chain(row.cells.iter().map(cell)).collect();
        std::iter::once(head).chain(self.rows.iter().map(row)).collect()
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![format!("**{}**", self.title), String::new()];
        for (index, words) in self.words().iter().enumerate() {
            lines.push(format!("| {} |", words.join(" | ")));
            if index == 0 {
                lines.push(format!("|---|{}", "--:|".repeat(self.columns.len())));
            }
        }
        lines.push(String::new());
        lines.extend(self.notes.iter().map(|note| format!("- {note}")));
        lines.join("\n") + "\n"
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words();
        let length = |word: &String| word.chars().count();
        let width = |column: usize| words.iter().filter_map(|row| row.get(column).map(length)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        writeln!(f, "\n{}", self.title)?;
        for row in &words {
            let (first, rest) = row.split_first().expect("a row has a name");
            let cells = rest.iter().zip(&widths[1..]).map(|(word, width)| format!("{word:>width$}"));
            writeln!(f, "  {first:width$}  {}", cells.collect::<Vec<_>>().join("  "), width = widths[0])?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  · {note}"))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tables.iter().try_for_each(|table| write!(f, "{table}"))?;
        writeln!(f, "  ({}: {:.0} s)", self.name, self.seconds)
    }
}

impl Part {
    /// Writes `<directory>/<name>.json`.
    pub(crate) fn keep(&self, directory: &Path, machine: &Machine, quick: bool) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Kept<'a> {
            machine: &'a Machine,
            quick: bool,
            #[serde(flatten)]
            part: &'a Part,
        }
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let path = directory.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(&Kept { machine, quick, part: self })?;
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

/// The middle one; of an even number the mean of both.
pub(crate) fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// By linear interpolation; 0 of nothing.
pub(crate) fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = share * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(figures: &[f64], share: f64, expected: f64) {
        assert!((quantile(figures, share) - expected).abs() < 1e-9);
    }

    #[test]
    fn quantiles() {
        check(&[], 0.5, 0.0);
        check(&[7.0], 0.99, 7.0);
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 0.5, 2.5);
        check(&[0.0, 10.0], 0.9, 9.0);
    }

    #[test]
    fn a_table_is_the_same_in_text_and_in_markdown() {
        let mut table = Table::new("Things, ns", &["hot", "cold"]);
        table.row("one", vec![Cell::whole(12.4), None]);
        table.note("measured");
        assert_eq!(table.to_string(), "\nThings, ns\n       hot  cold\n  one   12     –\n  · measured\n");
        let expected = "**Things, ns**\n\n|  | hot | cold |\n|---|--:|--:|\n| one | 12 | – |\n\n- measured\n";
        assert_eq!(table.markdown(), expected);
    }
}
