//! Nobody hands out more than they have: writes of roles and bindings are checked against the writer's own rules.
use api::schema::Row;
use api::status::Status;
use serde_json::Value;

use super::{Object, Question, Rbac, Rule, allowed};
use crate::authn::{MASTERS, User};

/// Checks a role or binding that `user` is about to write; anything else passes.
///
/// # Errors
/// 403 when it grants what the user does not have.
pub fn check(rbac: &Rbac, user: &User, row: &Row, object: &Value) -> Result<(), Status> {
    if row.group != "rbac.authorization.k8s.io" || user.is_in(MASTERS) {
        return Ok(());
    }
    let namespace = api::path::str(object, "metadata.namespace");
    let name = api::path::str(object, "metadata.name");
    let may = |verb: &str, resource: &str, name: &str| {
        let group = row.group;
        let object = Object::Resource { group, resource, subresource: "", namespace, name };
        allowed(rbac, &Question { user, verb, object })
    };
    let granted: Vec<Rule> = match row.resource {
        "roles" | "clusterroles" if !may("escalate", row.resource, name) => api::path::list(object, "rules")
            .iter()
            .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
            .collect(),
        "rolebindings" | "clusterrolebindings" => {
            let role = api::path::str(object, "roleRef.name");
            let (resource, place) = match api::path::str(object, "roleRef.kind") {
                "Role" => ("roles", namespace),
                _ => ("clusterroles", ""),
            };
            if may("bind", resource, role) {
                return Ok(());
            }
            let found = rbac.rules_of_role(place, role);
            found.ok_or_else(|| Status::not_found((row.group, resource), role))?
        }
        _ => return Ok(()),
    };
    let held = rbac.rules_of(user, namespace);
    let missing: Vec<String> = granted.iter().filter(|rule| !covered(&held, rule)).map(describe).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        api::status::quote(&user.name),
        serde_json::Value::from(user.groups.clone()),
        missing.join("\n"),
    );
    Err(Status::forbidden(row, name, text))
}

/// Whether each single permission of `wanted` is in one rule of `held`.
fn covered(held: &[Rule], wanted: &Rule) -> bool {
    let has = |list: &[String], item: &String| list.iter().any(|known| known == "*" || known == item);
    let resources = wanted.verbs.iter().all(|verb| {
        wanted.api_groups.iter().all(|group| {
            wanted.resources.iter().all(|resource| {
                held.iter().any(|rule| {
                    has(&rule.verbs, verb)
                        && has(&rule.api_groups, group)
                        && holds_resource(rule, resource)
                        && holds_names(rule, wanted)
                })
            })
        })
    });
    let paths = wanted.verbs.iter().all(|verb| {
        wanted.non_resource_urls.iter().all(|url| {
            held.iter().any(|rule| {
                has(&rule.verbs, verb)
                    && rule.non_resource_urls.iter().any(|known| match known.strip_suffix('*') {
                        Some(prefix) => url.starts_with(prefix),
                        None => known == url,
                    })
            })
        })
    });
    resources && paths
}

fn holds_resource(rule: &Rule, wanted: &str) -> bool {
    let any_of = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
    rule.resources.iter().any(|known| known == "*" || known == wanted || Some(known) == any_of.as_ref())
}

fn holds_names(rule: &Rule, wanted: &Rule) -> bool {
    rule.resource_names.is_empty()
        || (!wanted.resource_names.is_empty()
            && wanted.resource_names.iter().all(|name| rule.resource_names.contains(name)))
}

fn describe(rule: &Rule) -> String {
    let list = |items: &[String]| items.iter().map(|item| api::status::quote(item)).collect::<Vec<_>>().join(" ");
    let mut parts = Vec::new();
    for (name, items) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            parts.push(format!("{name}:[{}]", list(items)));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Rule, covered};

    fn rule(verbs: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Rule {
            verbs: list(verbs),
            api_groups: vec![String::new()],
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_held_can_be_given() {
        let held = [rule(&["get", "list"], &["pods", "*/scale"], &[]), rule(&["*"], &["secrets"], &["a"])];
        assert!(covered(&held, &rule(&["get"], &["pods", "deployments/scale"], &["x"])));
        assert!(!covered(&held, &rule(&["delete"], &["pods"], &[])));
        assert!(covered(&held, &rule(&["delete"], &["secrets"], &["a"])));
        assert!(!covered(&held, &rule(&["delete"], &["secrets"], &[])));
        assert!(!covered(&held, &rule(&["*"], &["pods"], &[])));
    }
}
