//! `$(NAME)` in values, commands and arguments, as apimachinery's `third_party/forked/golang/expansion` does it. Pure.

/// Replaces references to names of `env`; unknown ones stay as written, `$$` becomes `$`.
pub(crate) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        assert_eq!(expand(text, &env), expected);
    }

    #[test]
    fn references() {
        check("$(A)-$(A)", "1-1");
        check("$(B)", "$(A)");
        check("$(NO)", "$(NO)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$(A", "$(A");
        check("price $5 and $", "price $5 and $");
        check("", "");
    }
}
