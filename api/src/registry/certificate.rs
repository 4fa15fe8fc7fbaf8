//! CertificateSigningRequest: who asks is what the server saw; conditions change only by `approval` and `status`.

use serde_json::{Value, json};

use super::{Ctx, strategy};
use crate::{path, status::FieldError};

pub(super) fn prepare_create(ctx: &Ctx<'_>, value: &mut Value) {
    let spec = path::entry(value, "spec");
    for key in ["uid", "groups", "extra"] {
        spec.shift_remove(key);
    }
    spec.insert("username".to_owned(), json!(ctx.user));
}

pub(super) fn prepare_update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    strategy::keep(new, old, "spec");
    if ctx.part() == "approval" {
        let conditions = path::get(new, "status.conditions").clone();
        strategy::keep(new, old, "status");
        path::entry(new, "status").insert("conditions".to_owned(), conditions);
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::list(value, "spec.usages").is_empty() {
        errors.push(FieldError::required("spec.usages", "usages must be provided"));
    }
    let signer = path::str(value, "spec.signerName");
    if signer.is_empty() {
        errors.push(FieldError::required("spec.signerName", ""));
    } else if !signer.contains('/') {
        errors.push(FieldError::invalid(
            "spec.signerName",
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ));
    }
    errors
}
