//! The shapes of names and labels, and upstream's sentences about those that have another.

use crate::status::FieldError;

/// Says what is wrong with a name; nothing if it is good.
pub type Rule = fn(&str) -> Vec<String>;

/// Alphanumerics in lower case and `-`, not at the ends; at most 63.
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
    end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
    start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
    character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
    '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends =
        bytes.first().zip(bytes.last()).is_some_and(|(a, b)| a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric());
    ends && text.bytes().all(inner)
}

/// What is wrong with a DNS-1123 label.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(text) {
        let dots = dns1123_subdomain(text).is_empty();
        errors.push(if dots { "must not contain dots".to_owned() } else { LABEL.to_owned() });
    }
    errors
}

/// What is wrong with a DNS-1123 subdomain.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long(253));
    }
    if text.is_empty() || !text.split('.').all(is_label) {
        errors.push(SUBDOMAIN.to_owned());
    }
    errors
}

/// What is wrong with a DNS-1035 label.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        errors.push(LABEL_1035.to_owned());
    }
    errors
}

/// What is wrong with a path segment: names that are in no way DNS names (RBAC).
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// What is wrong with a label key or another qualified name.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(dns1123_subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
        _ => {
            let text = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![text.to_owned()];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long(63)));
    }
    if !is_name_part(name) {
        errors.push(QUALIFIED.to_owned());
    }
    errors
}

/// What is wrong with a label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !text.is_empty() && !is_name_part(text) {
        errors.push(VALUE.to_owned());
    }
    errors
}

/// What is wrong with the name of a port (IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') || text.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// What is wrong with a port's number.
pub fn port_number(port: i64) -> Option<&'static str> {
    if (1..=65535).contains(&port) { None } else { Some("must be between 1 and 65535, inclusive") }
}

/// What is wrong with a protocol at a path.
pub fn protocol(text: &str, field: &str) -> Option<FieldError> {
    match text {
        "" => Some(FieldError::required(field, "")),
        "TCP" | "UDP" | "SCTP" => None,
        other => Some(FieldError::not_supported(field, other, &["SCTP", "TCP", "UDP"])),
    }
}

/// What is wrong with the name of an environment variable.
pub fn env_name(text: &str) -> Option<&'static str> {
    let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    if plain {
        None
    } else {
        Some("a valid environment variable name must consist only of printable ASCII characters other than '='")
    }
}

/// What is wrong with a key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', \
             regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." | ".." => errors.push(format!("must not be '{text}'")),
        t if t.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text}");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn names_have_their_shapes() {
        let long = "a".repeat(64);
        check(dns1123_label, &["a", "a-1", "1a"], &["", "A", "-a", "a-", "a.b", "a_b", &long]);
        check(dns1123_subdomain, &["a", "a.b", "1.2"], &["", "a..b", ".a", "A.b", "a.-b"]);
        check(dns1035_label, &["a", "a1"], &["1a", "", "a.b"]);
        check(qualified_name, &["a", "A.b_c", "x.io/Y"], &["", "/a", "x/", "a/b/c", "X.io/a", "-a", "a-"]);
        check(label_value, &["", "a", "A_b"], &["a/b", "-a", &long]);
        check(port_name, &["http", "a-1"], &["", "HTTP", "80", "a--b", "-a", "abcdefghijklmnop"]);
        check(config_key, &["a", "A_b.c-d"], &["", "a/b", "..", "..a"]);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    }
}
