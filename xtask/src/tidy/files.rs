//! Source files: module docs, sizes, names, to-dos.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::Findings;
use crate::places::Places;

const LONG: usize = 400;
const TOO_LONG: usize = 600;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "misc", "types", "common", "mod"];
/// Not sources of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "testdata"];

pub(super) fn check(places: &Places, findings: &mut Findings) -> anyhow::Result<()> {
    let mut files = Vec::new();
    walk(&places.root, &mut files)?;
    files.sort();
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.strip_prefix(&places.root).unwrap_or(path);
        check_file(name, &text, findings);
    }
    Ok(())
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(path: &Path, text: &str, findings: &mut Findings) {
    let name = path.display();
    if !text.starts_with("//!") {
        findings.failures.push(format!("{name}: the first line is not its module doc (//!)"));
    }
    match text.lines().count() {
        lines if lines > TOO_LONG => findings.failures.push(format!("{name}: {lines} lines, more than {TOO_LONG}")),
        lines if lines > LONG => findings.warnings.push(format!("{name}: {lines} lines; split it above {LONG}")),
        _ => {}
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&&*stem) {
        findings.failures.push(format!("{name}: a module is named after what it holds, not {stem}"));
    }
    for (number, line) in text.lines().enumerate() {
        // In two pieces, or this file would find itself.
        if let Some((_, rest)) = line.split_once(concat!("TO", "DO")) {
            let has_issue = rest.strip_prefix("(#").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if !has_issue {
                findings.failures.push(format!("{name}:{}: a to-do without an issue's number", number + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, failures: usize) {
        let mut findings = Findings::default();
        check_file(Path::new(path), text, &mut findings);
        assert_eq!(findings.failures.len(), failures, "{findings:?}");
    }

    #[test]
    fn files() {
        check("a/service.rs", "//! Doc.\n", 0);
        check("a/service.rs", "use std::fs;\n", 1);
        check("a/mod.rs", "//! Doc.\n", 1);
        check("a/utils.rs", "//! Doc.\n", 1);
        check("a/long.rs", &format!("//! Doc.\n{}", "\n".repeat(600)), 1);
        check("a/todo.rs", concat!("//! Doc.\n// TO", "DO: later\n"), 1);
        check("a/todo.rs", concat!("//! Doc.\n// TO", "DO(#7): later\n"), 0);
    }
}
