//! The tables in docs/performance.md: what stands between two markers is replaced, the rest is for people.
use std::{fs, path::Path};

use anyhow::Context as _;

use crate::{machine::Machine, report::Part};

/// Puts the part's tables between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
pub(crate) fn write(document: &Path, part: &Part, machine: &Machine) -> anyhow::Result<()> {
    let text = fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    let tables: Vec<String> = part.tables.iter().map(crate::report::Table::markdown).collect();
    let body = format!("*{machine}; {:.0} s.*\n\n{}", part.seconds, tables.join("\n"));
    let text = replace(&text, part.name, &body)
        .with_context(|| format!("{} has no markers for {}", document.display(), part.name))?;
    fs::write(document, text).with_context(|| format!("writing {}", document.display()))
}

fn replace(text: &str, name: &str, body: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{body}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(replace(text, "a", "new\n").as_deref(), expected);
    }

    #[test]
    fn between_markers() {
        check("x\n<!-- bench:a -->\nold\n<!-- /bench:a -->\ny", Some("x\n<!-- bench:a -->\nnew\n<!-- /bench:a -->\ny"));
        check("<!-- bench:a -->\n<!-- /bench:a -->", Some("<!-- bench:a -->\nnew\n<!-- /bench:a -->"));
        check("no markers", None);
        check("<!-- bench:b -->\n<!-- /bench:b -->", None);
    }
}
