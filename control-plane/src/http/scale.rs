//! `/scale`: replicas of four kinds in one form.
use api::path;
use api::schema::Row;
use api::status::{FieldError, Status};
use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::resource::target;
use super::{Call, Server, body};
use crate::registry::{Preconditions, Target, view};

const TYPE: &str = "io.k8s.api.autoscaling.v1.Scale";

pub(super) async fn get(server: &Server, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let entry = server.registry.get(&target(row, &call), "").await?;
    Ok(reply::value(200, &scale_of(&view::value(row, &entry.value, entry.revision))))
}

pub(super) async fn update(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let dry_run = body::dry_run(&call)?;
    let wanted = if call.place.verb == "patch" {
        Wanted::Patch(body::Patch::of(&mut call, row).await?)
    } else {
        Wanted::Whole(body::options(&mut call, "Scale").await?)
    };
    // The object's own update: a changed number of replicas is a changed spec.
    let target = Target { subresource: "", ..target(row, &call) };
    let change = |old: &Value| {
        let scale = scale_of(old);
        let new = match &wanted {
            Wanted::Whole(new) => new.clone(),
            Wanted::Patch(patch) => patch.apply(TYPE, &scale)?,
        };
        let given = path::str(&new, "metadata.resourceVersion");
        if !given.is_empty() && given != path::str(old, "metadata.resourceVersion") {
            return Err(Status::modified(row, target.name));
        }
        let replicas = path::int(&new, "spec.replicas").unwrap_or(0);
        if replicas < 0 {
            let text = "must be greater than or equal to 0";
            let error = FieldError::invalid("spec.replicas", replicas, text);
            return Err(Status::invalid(("autoscaling", "Scale"), target.name, vec![error]));
        }
        let mut object = old.clone();
        path::entry(&mut object, "spec").insert("replicas".to_owned(), replicas.into());
        Ok(object)
    };
    let outcome = server.registry.update(&target, &Preconditions::default(), dry_run, change).await?;
    Ok(reply::value(200, &scale_of(&view::value(row, &outcome.value, outcome.revision.unwrap_or(0)))))
}

enum Wanted {
    Whole(Value),
    Patch(body::Patch),
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = path::get(object, "metadata").get(key) {
            metadata[key] = value.clone();
        }
    }
    let replicas = path::int(object, "spec.replicas").unwrap_or(0);
    let mut spec = json!({});
    if replicas != 0 {
        spec["replicas"] = json!(replicas);
    }
    let mut status = json!({"replicas": path::int(object, "status.replicas").unwrap_or(0)});
    let selector = selector_text(path::get(object, "spec.selector"));
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

/// A selector as one string, sorted; a ReplicationController's is a plain map.
fn selector_text(selector: &Value) -> String {
    let Some(map) = selector.as_object() else { return String::new() };
    let plain = !map.contains_key("matchLabels") && !map.contains_key("matchExpressions");
    let labels = if plain { Some(map) } else { path::map(selector, "matchLabels") };
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in path::list(selector, "matchExpressions") {
        let key = path::str(expression, "key");
        let values: Vec<&str> = path::list(expression, "values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        terms.push(match path::str(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort_unstable();
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::selector_text;

    #[track_caller]
    fn check(selector: &Value, expected: &str) {
        assert_eq!(selector_text(selector), expected);
    }

    #[test]
    fn selectors_as_text() {
        check(&json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2");
        check(&json!({"a": "1"}), "a=1");
        check(&json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}), "k in (x,y)");
        check(&Value::Null, "");
    }
}
