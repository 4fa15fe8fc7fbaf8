//! Questions that are asked as objects: who am I, may I, whose token is this; and the tokens themselves.
use std::sync::Arc;

use api::path;
use api::schema::Row;
use api::status::{FieldError, Status};
use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::{Call, Server, body};
use crate::authn::{Bound, Grant, User};
use crate::authz::{self, Object, Question, Rule};

/// A token's life when nobody says, and the shortest that is given.
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_AT_LEAST: i64 = 600;
const TOKEN_AT_MOST: i64 = 1 << 32;

pub(super) fn is_review(row: &Row) -> bool {
    matches!(row.group, "authorization.k8s.io" | "authentication.k8s.io")
}

pub(super) async fn create(server: &Arc<Server>, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let mut warnings = Vec::new();
    let mut object = body::object(&mut call, row, &mut warnings).await?;
    let status = match row.resource {
        "selfsubjectreviews" => json!({"userInfo": call.user.to_value()}),
        "tokenreviews" => review_token(server, &object),
        "selfsubjectrulesreviews" => review_rules(server, &call.user, &object)?,
        "selfsubjectaccessreviews" => review_access(server, &call.user, &object, "")?,
        resource => {
            let user = named_user(path::get(&object, "spec"));
            if user.name.is_empty() && user.groups.is_empty() {
                let error = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
                return Err(Status::invalid(row, "", vec![error]));
            }
            let place = if resource == "localsubjectaccessreviews" { call.place.namespace.as_str() } else { "" };
            review_access(server, &user, &object, place)?
        }
    };
    let whole = path::object(&mut object);
    whole.insert("kind".to_owned(), row.kind.into());
    whole.insert("apiVersion".to_owned(), row.api_version().into());
    whole.insert("status".to_owned(), status);
    let metadata = path::entry(&mut object, "metadata");
    metadata.entry("creationTimestamp").or_insert(Value::Null);
    let mut reply = reply::value(201, &object);
    reply::warn(&mut reply, &warnings);
    Ok(reply)
}

fn named_user(spec: &Value) -> User {
    let strings =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    User {
        name: path::str(spec, "user").to_owned(),
        uid: path::str(spec, "uid").to_owned(),
        groups: strings(path::get(spec, "groups")),
        extra: path::map(spec, "extra")
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), strings(value)))
            .collect(),
    }
}

fn review_access(server: &Server, user: &User, object: &Value, namespace: &str) -> Result<Value, Status> {
    let spec = path::get(object, "spec");
    let (asked, other) = (path::get(spec, "resourceAttributes"), path::get(spec, "nonResourceAttributes"));
    let rbac = &server.registry.rbac;
    let question = if asked.is_object() {
        let place = path::str(asked, "namespace");
        if !namespace.is_empty() && place != namespace {
            let text = format!("must match metadata.namespace: {namespace}");
            let error = FieldError::invalid("spec.resourceAttributes.namespace", place, text);
            return Err(Status::invalid(("authorization.k8s.io", "LocalSubjectAccessReview"), "", vec![error]));
        }
        Question {
            user,
            verb: path::str(asked, "verb"),
            object: Object::Resource {
                group: path::str(asked, "group"),
                resource: path::str(asked, "resource"),
                subresource: path::str(asked, "subresource"),
                namespace: place,
                name: path::str(asked, "name"),
            },
        }
    } else if other.is_object() {
        Question { user, verb: path::str(other, "verb"), object: Object::Path(path::str(other, "path")) }
    } else {
        let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let error = FieldError::invalid("spec.resourceAttributes", Value::Null, text);
        return Err(Status::invalid(("authorization.k8s.io", path::str(object, "kind")), "", vec![error]));
    };
    Ok(json!({"allowed": authz::allowed(rbac, &question)}))
}

fn review_rules(server: &Server, user: &User, object: &Value) -> Result<Value, Status> {
    let namespace = path::str(object, "spec.namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = server.registry.rbac.rules_of(user, namespace);
    if user.is_in(crate::authn::MASTERS) {
        let all = || vec!["*".to_owned()];
        rules.insert(0, Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
        rules.insert(1, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
    }
    let mut distinct: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules {
        if !distinct.contains(&rule) {
            distinct.push(rule);
        }
    }
    let (paths, resources): (Vec<Rule>, Vec<Rule>) = distinct.into_iter().partition(|rule| rule.resources.is_empty());
    let resources: Vec<Value> = resources
        .iter()
        .map(|rule| {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = json!(rule.resource_names);
            }
            value
        })
        .collect();
    let paths: Vec<Value> =
        paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls})).collect();
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

fn review_token(server: &Server, object: &Value) -> Value {
    let issuer = server.tokens.issuer();
    let given: Vec<&str> = path::list(object, "spec.audiences").iter().filter_map(Value::as_str).collect();
    let audiences = if given.is_empty() { vec![issuer] } else { given };
    match server.tokens.verify(path::str(object, "spec.token"), &audiences) {
        Ok(grant) => {
            let common: Vec<&str> =
                audiences.into_iter().filter(|audience| grant.aud.iter().any(|known| known == audience)).collect();
            json!({"authenticated": true, "user": grant.user().to_value(), "audiences": common})
        }
        Err(reason) => json!({"user": {}, "error": reason.to_string()}),
    }
}

/// `serviceaccounts/token`: TokenRequest.
pub(super) async fn token(server: &Arc<Server>, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let mut request = body::options(&mut call, "TokenRequest").await?;
    let entry = server.registry.get(&super::resource::target(row, &call), "").await?;
    let account = crate::serve::parse(&entry.value, entry.revision);
    let namespace = call.place.namespace.as_str();
    let given = path::int(&request, "spec.expirationSeconds");
    let seconds = given.unwrap_or(TOKEN_SECONDS);
    if !(TOKEN_AT_LEAST..=TOKEN_AT_MOST).contains(&seconds) {
        let text = if seconds < TOKEN_AT_LEAST {
            "may not specify a duration less than 10 minutes"
        } else {
            "may not specify a duration larger than 2^32 seconds"
        };
        let error = FieldError::invalid("spec.expirationSeconds", seconds, text);
        return Err(Status::invalid(("authentication.k8s.io", "TokenRequest"), "", vec![error]));
    }
    let mut audiences: Vec<String> =
        path::list(&request, "spec.audiences").iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect();
    if audiences.is_empty() {
        audiences.push(server.tokens.issuer().to_owned());
    }
    let bound = |object: &Value| Bound {
        name: path::str(object, "metadata.name").to_owned(),
        uid: path::str(object, "metadata.uid").to_owned(),
    };
    let mut grant = Grant::new(namespace, bound(&account), audiences.clone(), seconds);
    bind(server, &mut grant, namespace, &call.place.name, path::get(&request, "spec.boundObjectRef"))?;
    let token = server.tokens.sign(&grant).map_err(|error| Status::internal(&error))?;
    let spec = path::entry(&mut request, "spec");
    spec.insert("audiences".to_owned(), json!(audiences));
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    spec.entry("boundObjectRef").or_insert(Value::Null);
    let whole = path::object(&mut request);
    whole.insert("kind".to_owned(), "TokenRequest".into());
    whole.insert("apiVersion".to_owned(), "authentication.k8s.io/v1".into());
    whole.insert(
        "metadata".to_owned(),
        json!({"name": call.place.name, "namespace": namespace, "creationTimestamp": crate::registry::now()}),
    );
    whole.insert(
        "status".to_owned(),
        json!({"token": token, "expirationTimestamp": crate::registry::timestamp(grant.exp)}),
    );
    Ok(reply::value(201, &request))
}

/// Binds a token to the object that its request names.
fn bind(server: &Server, grant: &mut Grant, namespace: &str, account: &str, reference: &Value) -> Result<(), Status> {
    if !reference.is_object() {
        return Ok(());
    }
    let (kind, name, uid) = (path::str(reference, "kind"), path::str(reference, "name"), path::str(reference, "uid"));
    let (table, resource) = match kind {
        "Pod" => ("pods", "pods"),
        "Secret" => ("secrets", "secrets"),
        _ => {
            let text = format!("cannot bind token for serviceaccount \"{account}\" to object of kind \"{kind}\"");
            return Err(Status::bad_request(text));
        }
    };
    let object = server.registry.find(table, namespace, name).ok_or_else(|| Status::not_found(resource, name))?;
    let found = path::str(&object, "metadata.uid");
    if !uid.is_empty() && uid != found {
        let text = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(resource, name, text));
    }
    let bound = Bound { name: name.to_owned(), uid: found.to_owned() };
    if kind == "Secret" {
        grant.bind_secret(bound);
        return Ok(());
    }
    let runs_as = path::str(&object, "spec.serviceAccountName");
    if runs_as != account {
        let text = format!(
            "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
        );
        return Err(Status::bad_request(text));
    }
    let node = path::str(&object, "spec.nodeName");
    let node = server.registry.find("minions", "", node).map(|node| Bound {
        name: path::str(&node, "metadata.name").to_owned(),
        uid: path::str(&node, "metadata.uid").to_owned(),
    });
    grant.bind_pod(bound, node);
    Ok(())
}
