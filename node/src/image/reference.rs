//! Image references: what a pod spec writes → the one name an image is stored under.
//!
//! Docker's rules, as containerd and the kubelet apply them: `docker.io` and `library/` and `:latest` are added where they
//! are missing, and a digest beside a tag wins.

/// A reference that docker's grammar does not allow.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("couldn't parse image name {reference:?}: invalid reference format")]
pub struct InvalidReference {
    /// As written.
    pub reference: String,
}

/// The full form of a reference, e.g. `docker.io/library/guestbook:1.0`.
pub fn normalize(reference: &str) -> Result<String, InvalidReference> {
    let invalid = || InvalidReference { reference: reference.to_owned() };
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    // A colon after the last slash starts the tag; one before it is a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let valid = valid_domain(domain) && path.split('/').all(valid_component) && tag.is_none_or(valid_tag);
    match (valid, digest) {
        (true, Some(digest)) if valid_digest(digest) => Ok(format!("{domain}/{path}@{digest}")),
        (true, None) => Ok(format!("{domain}/{path}:{}", tag.unwrap_or("latest"))),
        _ => Err(invalid()),
    }
}

/// Whether the kubelet's default pull policy for this reference is `Always`: no tag, or the tag `latest`, and no digest.
pub fn is_latest(reference: &str) -> bool {
    !reference.contains('@') && normalize(reference).is_ok_and(|name| name.ends_with(":latest"))
}

/// This machine's architecture in OCI's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn valid_domain(domain: &str) -> bool {
    !domain.is_empty() && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

fn valid_component(component: &str) -> bool {
    let inner =
        component.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte));
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    inner && edge(component.bytes().next()) && edge(component.bytes().last())
}

fn valid_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

fn valid_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reference: &str, expected: Option<&str>) {
        assert_eq!(normalize(reference).ok().as_deref(), expected);
    }

    #[test]
    fn normalizes() {
        check("guestbook:1.0", Some("docker.io/library/guestbook:1.0"));
        check("guestbook", Some("docker.io/library/guestbook:latest"));
        check("team/guestbook", Some("docker.io/team/guestbook:latest"));
        check("registry.local:5000/a/b:v1", Some("registry.local:5000/a/b:v1"));
        check("localhost/a", Some("localhost/a:latest"));
        check("index.docker.io/library/a", Some("docker.io/library/a:latest"));
        let digest = format!("sha256:{}", "a".repeat(64));
        check(&format!("a:1@{digest}"), Some(&format!("docker.io/library/a@{digest}")));
    }

    #[test]
    fn refuses() {
        for reference in ["", "Upper", "a:b c", "a@sha256:1", "a//b", "-a", "a:", ":tag"] {
            check(reference, None);
        }
    }

    #[test]
    fn latest_is_pulled_always() {
        assert!(is_latest("a") && is_latest("a:latest"));
        assert!(!is_latest("a:1") && !is_latest(&format!("a@sha256:{}", "0".repeat(64))));
    }
}
