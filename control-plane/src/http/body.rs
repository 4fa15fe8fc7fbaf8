//! Bodies of requests → objects, options and patches; what strict validation says about them.
use api::decode::{self, Decoded};
use api::schema::Row;
use api::status::Status;
use serde_json::{Value, json};

use super::{Call, accept};
use crate::registry::{DeleteOptions, Preconditions, Propagation};

/// What to do about fields that the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

impl Validation {
    pub(super) fn of(call: &Call) -> Result<Self, Status> {
        match call.query.get("fieldValidation") {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let error =
                    api::status::FieldError::not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                Err(Status::invalid(("meta.k8s.io", kind_of_options(call.place.verb)), "", vec![error]))
            }
        }
    }

    /// Refuses, warns or is silent.
    pub(super) fn judge(self, row: &Row, decoded: Decoded, warnings: &mut Vec<String>) -> Result<Value, Status> {
        match self {
            Self::Strict if !decoded.unknown.is_empty() => return Err(decode::strict_error(row, &decoded.unknown)),
            Self::Warn => warnings.extend(decoded.unknown),
            Self::Strict | Self::Ignore => {}
        }
        Ok(decoded.value)
    }
}

fn kind_of_options(verb: &str) -> &'static str {
    match verb {
        "create" => "CreateOptions",
        "patch" => "PatchOptions",
        _ => "UpdateOptions",
    }
}

/// `dryRun=All`.
pub(super) fn dry_run(call: &Call) -> Result<bool, Status> {
    match call.query.all("dryRun").as_slice() {
        [] | [""] => Ok(false),
        ["All"] => Ok(true),
        other => {
            let error = api::status::FieldError::not_supported("dryRun", json!(other), &["All"]);
            Err(Status::invalid(("meta.k8s.io", kind_of_options(call.place.verb)), "", vec![error]))
        }
    }
}

/// The object of a create or an update.
pub(super) async fn object(call: &mut Call, row: &Row, warnings: &mut Vec<String>) -> Result<Value, Status> {
    let validation = Validation::of(call)?;
    let format = accept::format(&call.headers)?;
    let body = call.body().await?;
    let decoded = decode::decode(format, &body, Some(row))?;
    validation.judge(row, decoded, warnings)
}

/// A body that is no resource: Scale, Binding, TokenRequest, a review.
pub(super) async fn options(call: &mut Call, kind: &str) -> Result<Value, Status> {
    let format = accept::format(&call.headers)?;
    let body = call.body().await?;
    if body.is_empty() {
        return Ok(json!({}));
    }
    decode::decode_options(kind, format, &body)
}

/// DeleteOptions, from the body or from the query.
pub(super) async fn delete_options(call: &mut Call) -> Result<DeleteOptions, Status> {
    let body = call.body().await?;
    let value = if body.is_empty() {
        let query = &call.query;
        json!({
            "gracePeriodSeconds": query.number("gracePeriodSeconds")?,
            "propagationPolicy": Some(query.get("propagationPolicy")).filter(|policy| !policy.is_empty()),
            "orphanDependents": query.has("orphanDependents").then(|| query.flag("orphanDependents")),
            "dryRun": query.all("dryRun"),
        })
    } else {
        decode::decode_options("DeleteOptions", accept::format(&call.headers)?, &body)?
    };
    read_delete_options(&value, dry_run(call)?)
}

/// DeleteOptions as they stand in some object.
pub(super) fn read_delete_options(value: &Value, dry_run: bool) -> Result<DeleteOptions, Status> {
    let text = |name: &str| {
        let text = api::path::str(value, name);
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    let propagation = match api::path::str(value, "propagationPolicy") {
        "" => None,
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        other => {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            let error = api::status::FieldError::not_supported("propagationPolicy", other, &known);
            return Err(Status::invalid(("meta.k8s.io", "DeleteOptions"), "", vec![error]));
        }
    };
    let orphan = api::path::get(value, "orphanDependents").as_bool();
    let orphan = orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
    Ok(DeleteOptions {
        preconditions: Preconditions {
            uid: text("preconditions.uid"),
            resource_version: text("preconditions.resourceVersion"),
        },
        grace: api::path::int(value, "gracePeriodSeconds"),
        propagation: propagation.or(orphan),
        dry_run: dry_run || !api::path::list(value, "dryRun").is_empty(),
    })
}

/// A patch, by its media type.
pub(super) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub(super) async fn of(call: &mut Call, row: &Row) -> Result<Self, Status> {
        let media = accept::content_type(&call.headers).to_owned();
        let body = call.body().await?;
        let value = || {
            serde_json::from_slice(&body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
        };
        match media.as_str() {
            "application/json-patch+json" => Ok(Self::Json(value()?)),
            "application/merge-patch+json" => Ok(Self::Merge(value()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(value()?)),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                let mut status = Status::unsupported_media_type(&[]);
                status.message = format!(
                    "server-side apply is not supported yet for {}: use a merge, strategic merge or JSON patch",
                    row.group_resource()
                );
                Err(status)
            }
            _ => Err(Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ])),
        }
    }

    pub(super) fn apply(&self, type_name: &str, object: &Value) -> Result<Value, Status> {
        match self {
            Self::Json(patch) => api::patch::json(object, patch),
            Self::Merge(patch) => Ok(api::patch::merge(object, patch)),
            Self::Strategic(patch) => api::patch::strategic(type_name, object, patch),
        }
    }
}
