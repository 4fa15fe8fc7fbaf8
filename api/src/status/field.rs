//! Field errors: what validation finds wrong with a field, printed as upstream prints it.

use std::fmt;

use serde_json::Value;

use super::{Cause, quote};

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are upstream's own words")]
pub enum FieldErrorKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

/// A field, its value and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Path: `spec.containers[0].name`.
    pub field: String,
    /// The value found there.
    pub value: Value,
    /// More words.
    pub detail: String,
}

impl FieldErrorKind {
    /// The words of the message.
    fn words(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Internal => "Internal error",
        }
    }

    /// The reason in a cause.
    fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::Internal => "InternalError",
        }
    }
}

impl FieldError {
    fn new(kind: FieldErrorKind, field: impl Into<String>, value: Value, detail: impl Into<String>) -> Self {
        FieldError { kind, field: field.into(), value, detail: detail.into() }
    }

    /// The field must be there.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Required, field, Value::Null, detail)
    }

    /// The value is not good.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Invalid, field, value.into(), detail)
    }

    /// The value is none of an enumeration's, which is printed in the order given.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        FieldError::new(FieldErrorKind::NotSupported, field, value.into(), detail)
    }

    /// The value is there twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        FieldError::new(FieldErrorKind::Duplicate, field, value.into(), "")
    }

    /// The field may not be set.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Forbidden, field, Value::Null, detail)
    }

    /// The value is longer than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        FieldError::new(FieldErrorKind::TooLong, field, Value::Null, format!("may not be more than {max} {unit}"))
    }

    /// The list has more than `max` items.
    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        FieldError::new(FieldErrorKind::TooMany, field, Value::from(actual), format!("must have at most {max} {unit}"))
    }

    /// What the value names is not there.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        FieldError::new(FieldErrorKind::NotFound, field, value.into(), "")
    }

    /// The message without the field's path.
    pub fn body(&self) -> String {
        let words = self.kind.words();
        let mut text = match self.kind {
            FieldErrorKind::Required
            | FieldErrorKind::Forbidden
            | FieldErrorKind::TooLong
            | FieldErrorKind::Internal => words.to_owned(),
            _ => format!("{words}: {}", go_value(&self.value)),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// The entry of `status.details.causes`.
    pub fn into_cause(self) -> Cause {
        Cause { reason: self.kind.reason().to_owned(), message: self.body(), field: self.field }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// All messages in one: itself if there is one, else `[a, b]`; each message once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut seen: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    match seen.len() {
        0 => String::new(),
        1 => seen.remove(0),
        _ => format!("[{}]", seen.join(", ")),
    }
}

/// A value as the message shows it: strings quoted, numbers plain, structures as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &FieldError, expected: &str) {
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn text_is_upstreams() {
        check(&FieldError::required("spec.containers", ""), "spec.containers: Required value");
        check(&FieldError::invalid("a", "B", "bad"), "a: Invalid value: \"B\": bad");
        check(
            &FieldError::not_supported("a", "x", &["y", "z"]),
            "a: Unsupported value: \"x\": supported values: \"y\", \"z\"",
        );
        check(&FieldError::duplicate("a[1]", "x"), "a[1]: Duplicate value: \"x\"");
        check(&FieldError::too_long("a", 63), "a: Too long: may not be more than 63 bytes");
        check(&FieldError::forbidden("a", "no"), "a: Forbidden: no");
    }

    #[test]
    fn several_errors_are_listed_once_each() {
        let errors = [FieldError::required("a", ""), FieldError::required("b", ""), FieldError::required("a", "")];
        assert_eq!(aggregate(&errors), "[a: Required value, b: Required value]");
    }
}
