//! What the compiler does not check: edges between crates, module docs, file sizes, names, and the documents against the
//! tree. All findings are listed at once.

mod docs;
mod edges;
mod files;

use anyhow::bail;

use crate::places::Places;

/// What was found: failures, and warnings that are only shown.
#[derive(Debug, Default)]
struct Findings {
    failures: Vec<String>,
    warnings: Vec<String>,
}

pub(crate) fn run(places: &Places) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    edges::check(places, &mut findings)?;
    files::check(places, &mut findings)?;
    docs::check(places, &mut findings)?;
    for warning in &findings.warnings {
        eprintln!("warning: {warning}");
    }
    if findings.failures.is_empty() {
        return Ok(());
    }
    bail!("tidy: {} findings\n  {}", findings.failures.len(), findings.failures.join("\n  "));
}
