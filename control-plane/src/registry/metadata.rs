//! The metadata that is the server's: uid, times, generated names, what an update may not change.
use api::path;
use api::schema::Row;
use api::status::{FieldError, Status};
use rand::Rng;
use serde_json::{Map, Value, json};

use super::Target;

const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const LONGEST_NAME: usize = 63;

/// Now, as objects spell it: whole seconds.
pub(crate) fn now() -> String {
    timestamp(jiff::Timestamp::now().as_second())
}

/// Seconds since 1970, as objects spell them.
pub(crate) fn timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Five characters that spell nothing.
pub(crate) fn random_suffix() -> String {
    let mut random = rand::rng();
    (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX[random.random_range(0..SUFFIX.len())])).collect()
}

pub(super) fn of(object: &mut Value) -> &mut Map<String, Value> {
    path::entry(object, "metadata")
}

/// Readies a new object's metadata; the name may be generated.
pub(super) fn prepare_new(target: &Target<'_>, object: &mut Value) -> Result<(), Status> {
    check_namespace(target, object)?;
    if !path::str(object, "metadata.resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let namespaced = target.row.namespaced();
    let metadata = of(object);
    for key in
        ["resourceVersion", "uid", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"]
    {
        metadata.shift_remove(key);
    }
    if namespaced {
        metadata.insert("namespace".to_owned(), target.namespace.into());
    } else {
        metadata.shift_remove("namespace");
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), now().into());
    Ok(())
}

/// Fills in the name from generateName; whether it did.
pub(super) fn generate_name(object: &mut Value) -> bool {
    let base = path::str(object, "metadata.generateName").to_owned();
    if base.is_empty() || !path::str(object, "metadata.name").is_empty() {
        return false;
    }
    let longest = LONGEST_NAME - SUFFIX_LENGTH;
    let base: String = base.chars().take(longest).collect();
    of(object).insert("name".to_owned(), format!("{base}{}", random_suffix()).into());
    true
}

fn check_namespace(target: &Target<'_>, object: &Value) -> Result<(), Status> {
    let given = path::str(object, "metadata.namespace");
    if target.row.namespaced() && !given.is_empty() && given != target.namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(text));
    }
    Ok(())
}

/// Brings an update's metadata in line with the object as it is, or refuses it.
pub(super) fn prepare_update(target: &Target<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    check_namespace(target, new)?;
    let row = target.row;
    let name = path::str(new, "metadata.name");
    if !name.is_empty() && name != target.name {
        let text = format!("the name of the object ({name}) does not match the name on the URL ({})", target.name);
        return Err(Status::bad_request(text));
    }
    let (given, held) = (path::str(new, "metadata.uid"), path::str(old, "metadata.uid"));
    if !given.is_empty() && given != held {
        let text = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {held}");
        return Err(Status::conflict(row, target.name, text));
    }
    check_revision(row, target.name, new, old)?;
    let kept = ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    let metadata = of(new);
    for key in kept {
        match path::get(old, "metadata").get(key) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.shift_remove(key),
        };
    }
    metadata.shift_remove("selfLink");
    metadata.shift_remove("managedFields");
    check_finalizers(row, target.name, new, old)
}

fn check_revision(row: &Row, name: &str, new: &Value, old: &Value) -> Result<(), Status> {
    let given = path::str(new, "metadata.resourceVersion");
    if given.is_empty() || given == "0" {
        if api::registry::allow_unconditional_update(row) {
            return Ok(());
        }
        let error = FieldError::invalid("metadata.resourceVersion", json!(0), "must be specified for an update");
        return Err(Status::invalid(row, name, vec![error]));
    }
    if given == path::str(old, "metadata.resourceVersion") { Ok(()) } else { Err(Status::modified(row, name)) }
}

fn check_finalizers(row: &Row, name: &str, new: &Value, old: &Value) -> Result<(), Status> {
    if path::str(old, "metadata.deletionTimestamp").is_empty() {
        return Ok(());
    }
    let held = path::list(old, "metadata.finalizers");
    let added: Vec<&str> = path::list(new, "metadata.finalizers")
        .iter()
        .filter(|finalizer| !held.contains(finalizer))
        .filter_map(Value::as_str)
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let list = added.iter().map(|name| api::status::quote(name)).collect::<Vec<_>>().join(", ");
    let text = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
    );
    Err(Status::invalid(row, name, vec![FieldError::forbidden("metadata.finalizers", text)]))
}

/// Whether nothing holds an object that is being deleted any longer.
pub(super) fn is_released(row: &Row, object: &Value) -> bool {
    let held = !path::list(object, "metadata.finalizers").is_empty()
        || (is_namespace(row) && !path::list(object, "spec.finalizers").is_empty());
    let graceful = path::int(object, "metadata.deletionGracePeriodSeconds").unwrap_or(0) > 0;
    !path::str(object, "metadata.deletionTimestamp").is_empty() && !held && !graceful
}

pub(super) fn is_namespace(row: &Row) -> bool {
    row.storage_key == "namespaces"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{generate_name, path};

    #[test]
    fn generated_names_keep_their_length() {
        let mut object = json!({"metadata": {"generateName": "x".repeat(80)}});
        assert!(generate_name(&mut object));
        assert_eq!(path::str(&object, "metadata.name").len(), 63);
        assert!(!generate_name(&mut object), "a name is kept");
        assert!(!generate_name(&mut json!({"metadata": {}})));
    }
}
