//! The line of a field in a YAML document: by indentation, for what people and kubectl write (block style). What lies
//! inside a flow collection (`{…}`, `[…]`) is on the line of the innermost block field that holds it.

/// The line of a path such as `spec.ingress[0].from[1]`, from 0; the nearest field's around it if it is not written so.
pub(super) fn line(text: &str, path: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut range = 0..lines.len();
    let mut found = first_field(&lines);
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(at) = field(&lines, range.clone(), name) else { break };
        found = at;
        range = at + 1..end_of(&lines, at, range.end);
        let Some(index) = index else { continue };
        let Some(item) = items(&lines, range.clone()).nth(index) else { break };
        found = item;
        range = item..items(&lines, range.clone()).nth(index + 1).unwrap_or(range.end);
    }
    found
}

fn first_field(lines: &[&str]) -> usize {
    lines.iter().position(|line| !skipped(line)).unwrap_or(0)
}

fn skipped(line: &str) -> bool {
    let text = line.trim_start();
    text.is_empty() || text.starts_with('#')
}

/// Where the text of a line begins.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Where the first field of a line begins, dashes of lists skipped.
fn field_indent(line: &str) -> usize {
    let mut at = indent(line);
    while line[at..].starts_with("- ") {
        at += 2 + indent(&line[at + 2..]);
    }
    at
}

/// A field of the outermost level within the lines.
fn field(lines: &[&str], range: std::ops::Range<usize>, name: &str) -> Option<usize> {
    let mut written = range.filter(|at| !skipped(lines[*at]));
    let first = written.next()?;
    let level = field_indent(lines[first]);
    let is_it = |at: &usize| {
        let line = lines[*at];
        let own = if *at == first { level } else { indent(line) };
        own == level && line[own..].strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
    };
    std::iter::once(first).chain(written).find(is_it)
}

/// Behind the last line that belongs to a field.
fn end_of(lines: &[&str], at: usize, end: usize) -> usize {
    let level = field_indent(lines[at]);
    let inside = |line: &str| indent(line) > level || (indent(line) == level && line[level..].starts_with('-'));
    (at + 1..end).find(|next| !skipped(lines[*next]) && !inside(lines[*next])).unwrap_or(end)
}

/// The first lines of a list's items.
fn items<'a>(lines: &'a [&str], range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + 'a {
    let level = range.clone().find(|at| !skipped(lines[*at])).map_or(0, |at| indent(lines[at]));
    range.filter(move |at| {
        let line = lines[*at];
        !skipped(line) && indent(line) == level && line[level..].starts_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a policy
kind: NetworkPolicy
spec:
  podSelector: {}
  ingress:
  - from:
    - podSelector: {}
    # the second
    - ipBlock:
        cidr: 10.0.0.0/8
    ports:
    - port: 80
    - port: 443
  - ports: [{port: 53}]
  egress:
    - to:
        - namespaceSelector: {}
";

    #[track_caller]
    fn check(path: &str, expected: usize) {
        assert_eq!(line(TEXT, path) + 1, expected, "{path}");
    }

    #[test]
    fn paths() {
        check("spec", 3);
        check("spec.ingress[0]", 6);
        check("spec.ingress[0].from[0]", 7);
        check("spec.ingress[0].from[1]", 9);
        check("spec.ingress[0].ports[1]", 13);
        check("spec.ingress[1].ports[0]", 14);
        check("spec.egress[0].to[0]", 17);
        check("spec.policyTypes", 3);
    }
}
