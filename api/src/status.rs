//! `metav1.Status`: what the server answers when it refuses, in upstream's exact words.
//!
//! kubectl prints the message verbatim, and client-go decides by reason and code, so both are an interface. Field errors
//! (what validation finds) are in [`field`]. Nothing here knows HTTP: the server turns a [`Status`] into a reply.

pub mod field;
mod name;

use std::{borrow::Cow, fmt};

use serde_json::{Value, json};

pub use field::{FieldError, FieldErrorKind};
pub use name::{GroupKind, GroupResource};

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason: `NotFound`, `Conflict` …
    pub reason: Cow<'static, str>,
    /// What kubectl prints.
    pub message: String,
    /// The object it is about, and the causes.
    pub details: Option<Box<Details>>,
    /// `metadata.continue` of an expired list.
    pub continue_token: Option<String>,
}

/// Which object a refusal is about, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The object's group.
    pub group: String,
    /// The object's kind, or its plural name: upstream puts either here.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// One entry per field error.
    pub causes: Vec<Cause>,
    /// When the client may try again; 0 for not said.
    pub retry_after_seconds: u32,
}

/// One cause of a refusal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldManagerConflict` …
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

impl Status {
    /// A refusal with the given parts and no details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason: Cow::Borrowed(reason), message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, gr: GroupResource, name: &str) -> Self {
        let details = Details { name: name.to_owned(), group: gr.group, kind: gr.resource, ..Details::default() };
        self.details = Some(Box::new(details));
        self
    }

    /// 404: the object is not there.
    pub fn not_found(gr: impl Into<GroupResource>, name: &str) -> Self {
        let gr = gr.into();
        Status::new(404, "NotFound", format!("{gr} {} not found", quote(name))).about(gr, name)
    }

    /// 404: there is no such path.
    pub fn path_not_found() -> Self {
        Status::new(404, "NotFound", "the server could not find the requested resource")
            .about(GroupResource::new("", ""), "")
    }

    /// 409: the name is taken.
    pub fn already_exists(gr: impl Into<GroupResource>, name: &str) -> Self {
        let gr = gr.into();
        Status::new(409, "AlreadyExists", format!("{gr} {} already exists", quote(name))).about(gr, name)
    }

    /// 409: no free name was found for a generateName.
    pub fn generate_name_conflict(gr: impl Into<GroupResource>, name: &str, retry_after_seconds: u32) -> Self {
        let gr = gr.into();
        let message = format!(
            "{gr} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Status::new(409, "AlreadyExists", message).about(gr, name).retry_after(retry_after_seconds)
    }

    /// 409: the object has changed, or a precondition does not hold.
    pub fn conflict(gr: impl Into<GroupResource>, name: &str, text: impl fmt::Display) -> Self {
        let gr = gr.into();
        Status::new(409, "Conflict", format!("Operation cannot be fulfilled on {gr} {}: {text}", quote(name)))
            .about(gr, name)
    }

    /// 409: the resourceVersion of an update is not the object's.
    pub fn modified(gr: impl Into<GroupResource>, name: &str) -> Self {
        let text = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(gr, name, text)
    }

    /// 422: validation found errors.
    pub fn invalid(gk: impl Into<GroupKind>, name: &str, errors: Vec<FieldError>) -> Self {
        let gk = gk.into();
        let text = field::aggregate(&errors);
        let causes = errors.into_iter().map(FieldError::into_cause).collect();
        let message = format!("{gk} {} is invalid{}{text}", quote(name), if text.is_empty() { "" } else { ": " });
        let mut status = Status::new(422, "Invalid", message);
        let details = Details { name: name.to_owned(), group: gk.group, kind: gk.kind, causes, ..Details::default() };
        status.details = Some(Box::new(details));
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(400, "BadRequest", message)
    }

    /// 403: the user may not, or admission refuses.
    pub fn forbidden(gr: impl Into<GroupResource>, name: &str, text: impl fmt::Display) -> Self {
        let gr = gr.into();
        let message = match (gr.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {text}"),
            (false, true) => format!("{gr} is forbidden: {text}"),
            (false, false) => format!("{gr} {} is forbidden: {text}", quote(name)),
        };
        Status::new(403, "Forbidden", message).about(gr, name)
    }

    /// 401: nobody that we know.
    pub fn unauthorized() -> Self {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 405: the resource has no such verb.
    pub fn method_not_allowed(gr: impl Into<GroupResource>, verb: &str) -> Self {
        let gr = gr.into();
        Status::new(
            405,
            "MethodNotAllowed",
            format!("{verb} is not supported on resources of kind {}", quote(&gr.to_string())),
        )
        .about(gr, "")
    }

    /// 406: none of the accepted media types can be given.
    pub fn not_acceptable(supported: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", supported.join(", "));
        Status::new(406, "NotAcceptable", message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let list = supported.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {list}");
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 410: the resource version is too old.
    pub fn gone_expired(message: impl Into<String>) -> Self {
        Status::new(410, "Expired", message)
    }

    /// 413: the body is too large.
    pub fn too_large(message: impl fmt::Display) -> Self {
        Status::new(413, "RequestEntityTooLarge", format!("Request entity is too large: {message}"))
    }

    /// 429: try again later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let status = Status::new(429, "TooManyRequests", message).about(GroupResource::new("", ""), "");
        status.retry_after(retry_after_seconds)
    }

    /// 500: our own fault.
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {message}"));
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        status.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        status
    }

    /// 503: not now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Status::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let status = Status::new(504, "Timeout", format!("Timeout: {message}")).about(GroupResource::new("", ""), "");
        status.retry_after(retry_after_seconds)
    }

    /// 422: well-formed, but it cannot be carried out (a JSON patch whose path is not there).
    pub fn unprocessable(message: impl Into<String>) -> Self {
        let mut status = Status::new(422, "Invalid", message);
        status.details = Some(Box::default());
        status
    }

    /// The same refusal, to be tried again after so many seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_with(Box::default).retry_after_seconds = seconds;
        self
    }

    /// The same refusal, with a continue token to restart an expired list.
    pub fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    /// The JSON object.
    pub fn to_value(&self) -> Value {
        let metadata = self.continue_token.as_ref().map_or(json!({}), |token| json!({ "continue": token }));
        let mut value = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(details) = &self.details {
            value["details"] = details.to_value();
        }
        value["code"] = json!(self.code);
        value
    }

    /// The reply to a delete that leaves nothing behind.
    pub fn success(gr: impl Into<GroupResource>, name: &str, uid: &str) -> Value {
        let gr = gr.into();
        let details = Details {
            name: name.to_owned(),
            group: gr.group,
            kind: gr.resource,
            uid: uid.to_owned(),
            ..Details::default()
        };
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value() })
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            map.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".to_owned(), json!(self.retry_after_seconds));
        }
        Value::Object(map)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), json!(text));
            }
        }
        Value::Object(map)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// A string as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &Status, code: u16, reason: &str, message: &str) {
        assert_eq!((status.code, &*status.reason, status.message.as_str()), (code, reason, message));
    }

    #[test]
    fn messages_are_upstreams() {
        check(&Status::not_found("pods", "a"), 404, "NotFound", "pods \"a\" not found");
        check(&Status::not_found(("apps", "deployments"), "a"), 404, "NotFound", "deployments.apps \"a\" not found");
        check(&Status::already_exists("pods", "a"), 409, "AlreadyExists", "pods \"a\" already exists");
        let text = "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to \
                    the latest version and try again";
        check(&Status::modified("pods", "a"), 409, "Conflict", text);
        check(&Status::forbidden("pods", "", "no"), 403, "Forbidden", "pods is forbidden: no");
        check(&Status::internal("x"), 500, "InternalError", "Internal error occurred: x");
    }

    #[test]
    fn invalid_lists_its_causes() {
        let error = FieldError::invalid("spec.replicas", json!(-1), "must be greater than or equal to 0");
        let status = Status::invalid(("apps", "Deployment"), "d", vec![error]);
        let text =
            "Deployment.apps \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        check(&status, 422, "Invalid", text);
        let value = status.to_value();
        assert_eq!(value["details"]["kind"], "Deployment");
        assert_eq!(value["details"]["causes"][0]["reason"], "FieldValueInvalid");
        assert_eq!(value["details"]["causes"][0]["message"], "Invalid value: -1: must be greater than or equal to 0");
    }
}
