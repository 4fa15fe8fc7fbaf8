//! The documents against the tree: every crate, hook and drop reason is told of, and every file that is named exists.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::Findings;
use crate::places::Places;

const ARCHITECTURE: &str = "docs/architecture.md";
const PATHS: &str = "docs/packet-paths.md";

pub(super) fn check(places: &Places, findings: &mut Findings) -> anyhow::Result<()> {
    let read = |name: &str| fs::read_to_string(places.root.join(name)).with_context(|| format!("reading {name}"));
    let (architecture, paths) = (read(ARCHITECTURE)?, read(PATHS)?);
    let mut missing = |text: &str, document: &str, words: Vec<String>| {
        for word in words.iter().filter(|word| !names(text, word)) {
            findings.failures.push(format!("{document} does not name {word}"));
        }
    };
    missing(&architecture, ARCHITECTURE, crates(&places.root)?);
    missing(&architecture, ARCHITECTURE, hooks(&places.root)?);
    missing(&paths, PATHS, drop_reasons(&read("abi/src/verdict.rs")?));
    for (document, text) in [(ARCHITECTURE, &architecture), (PATHS, &paths)] {
        for file in files(text).into_iter().filter(|file| !places.root.join(file).exists()) {
            findings.failures.push(format!("{document} names {file}, which is not there"));
        }
    }
    Ok(())
}

/// Directories with a package of their own at the top of the tree.
fn crates(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root).context("reading the clone")? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The hooks' files: named after where the packet comes from or goes to.
fn hooks(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("ebpf/src")).context("reading ebpf/src")? {
        let name = entry?.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["from_", "to_", "sock_", "xdp_"].iter().any(|prefix| name.starts_with(prefix)) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The labels in the table of reasons: `Name = 1, "label", "Text.";`.
fn drop_reasons(source: &str) -> Vec<String> {
    let rows = source.lines().filter_map(|line| line.trim().split_once(" = "));
    let labels = rows.filter_map(|(_, row)| {
        let (number, rest) = row.split_once(", \"")?;
        number.parse::<u8>().ok()?;
        rest.split_once('"').map(|(label, _)| label.to_owned())
    });
    labels.collect()
}

/// Files between backticks that are named from the root of the tree; a name with a `<` stands for several.
fn files(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| is_file(name)).collect()
}

fn is_file(name: &str) -> bool {
    let ends = [".rs", ".md", ".tsv", ".jsonl", ".proto", ".yaml", ".toml"].iter().any(|end| name.ends_with(end));
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    ends && plain && name.contains('/') && !name.starts_with(['/', '.'])
}

/// Whether the text has the word, not as a part of a longer one.
fn names(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert!(names("the `api` crate", "api"));
        assert!(!names("the `agent-api` crate", "api"));
        assert!(!names("apis", "api"));
    }

    #[test]
    fn reasons_are_read_from_their_table() {
        let table = "    NoRoute = 16, \"no_route\", \"No route.\";\npub const REASONS: u32 = 64;\n";
        assert_eq!(drop_reasons(table), ["no_route"]);
    }

    #[test]
    fn files_are_told_from_patterns_and_commands() {
        let text = "in `abi/src/verdict.rs`, `cli/src/<command>.rs`, `serve.rs`, `/etc/x.yaml` and `cargo xtask tidy`";
        assert_eq!(files(text), ["abi/src/verdict.rs"]);
    }
}
