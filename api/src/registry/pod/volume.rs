//! A pod's volumes: unique names, one source each, and what each source needs.

use std::collections::HashSet;

use serde_json::Value;

use crate::{path, registry::names, status::FieldError};

/// What is wrong with the volumes, and their names.
pub(super) fn validate(list: &[Value], at: &str) -> (Vec<FieldError>, HashSet<String>) {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, volume) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let name = path::str(volume, "name");
        let mut wrong = source(volume, &at);
        if name.is_empty() {
            wrong.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            wrong.extend(
                names::dns1123_label(name).into_iter().map(|e| FieldError::invalid(format!("{at}.name"), name, e)),
            );
        }
        if seen.contains(name) {
            wrong.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        if wrong.is_empty() {
            seen.insert(name.to_owned());
        }
        errors.extend(wrong);
    }
    (errors, seen)
}

fn source(volume: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sources = volume.as_object().into_iter().flatten().filter(|(key, value)| *key != "name" && !value.is_null());
    let mut count = 0;
    for (key, value) in sources {
        count += 1;
        let at = format!("{at}.{key}");
        if count > 1 {
            errors.push(FieldError::forbidden(at, "may not specify more than 1 volume type"));
            continue;
        }
        errors.extend(one_source(key, value, &at));
    }
    if count == 0 {
        errors.push(FieldError::required(at, "must specify a volume type"));
    }
    errors
}

fn one_source(key: &str, source: &Value, at: &str) -> Vec<FieldError> {
    let required = |field: &str| {
        let missing = path::str(source, field).is_empty();
        missing.then(|| FieldError::required(format!("{at}.{field}"), ""))
    };
    let mut errors = Vec::new();
    match key {
        "hostPath" => {
            errors.extend(required("path"));
            errors.extend(no_backsteps(path::str(source, "path"), &format!("{at}.path")));
            let kind = path::str(source, "type");
            let known =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            if !known.contains(&kind) {
                errors.push(FieldError::not_supported(format!("{at}.type"), kind, &known));
            }
        }
        "secret" => errors.extend(required("secretName")),
        "configMap" => errors.extend(required("name")),
        "persistentVolumeClaim" => errors.extend(required("claimName")),
        "csi" => errors.extend(required("driver")),
        "nfs" => {
            errors.extend(required("server"));
            errors.extend(required("path"));
        }
        "projected" => errors.extend(projected(source, at)),
        _ => {}
    }
    if let Some(mode) = path::int(source, "defaultMode").filter(|m| !(0..=0o777).contains(m)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(format!("{at}.defaultMode"), mode, detail));
    }
    errors.extend(items(path::list(source, "items"), &format!("{at}.items"), key == "downwardAPI"));
    errors
}

fn items(list: &[Value], at: &str, downward: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if !downward && path::str(item, "key").is_empty() {
            errors.push(FieldError::required(format!("{at}.key"), ""));
        }
        let place = path::str(item, "path");
        if place.is_empty() {
            errors.push(FieldError::required(format!("{at}.path"), ""));
        }
        if place.starts_with('/') {
            errors.push(FieldError::invalid(format!("{at}.path"), place, "must be a relative path"));
        }
        errors.extend(no_backsteps(place, &format!("{at}.path")));
    }
    errors
}

fn projected(source: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, part) in path::list(source, "sources").iter().enumerate() {
        let at = format!("{at}.sources[{i}]");
        if let Some(token) = part.get("serviceAccountToken") {
            let seconds = path::int(token, "expirationSeconds").unwrap_or(3600);
            if seconds < 600 {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(
                    format!("{at}.serviceAccountToken.expirationSeconds"),
                    seconds,
                    detail,
                ));
            }
            if path::str(token, "path").is_empty() {
                errors.push(FieldError::required(format!("{at}.serviceAccountToken.path"), ""));
            }
        }
        for key in ["secret", "configMap"] {
            if let Some(part) = part.get(key) {
                if path::str(part, "name").is_empty() {
                    errors.push(FieldError::required(format!("{at}.{key}.name"), ""));
                }
                errors.extend(items(path::list(part, "items"), &format!("{at}.{key}.items"), false));
            }
        }
        match part.as_object().map_or(0, serde_json::Map::len) {
            1 => {}
            0 => errors.push(FieldError::required(at, "must specify at least one projection source")),
            _ => errors.push(FieldError::forbidden(at, "may not specify more than 1 volume type")),
        }
    }
    errors
}

fn no_backsteps(text: &str, at: &str) -> Option<FieldError> {
    text.split('/').any(|part| part == "..").then(|| FieldError::invalid(at, text, "must not contain '..'"))
}
