//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form.
//!
//! Everything derives from rows: the built-in ones, or any that the caller has (custom resources come so).

use serde_json::{Map, Value, json};

use crate::schema::{self, Row, Subresource};

/// `/api`: APIVersions. The server adds its own address where a client could need it.
pub fn core_versions() -> Value {
    let cidrs = json!([{ "clientCIDR": "0.0.0.0/0", "serverAddress": "" }]);
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidrs })
}

/// `/apis`: APIGroupList.
pub fn groups() -> Value {
    let groups: Vec<Value> = named_groups().map(|(name, versions)| group_value(name, versions)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`: APIGroup.
pub fn group(name: &str) -> Option<Value> {
    let (name, versions) = named_groups().find(|(group, _)| *group == name)?;
    let mut value = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    if let (Value::Object(map), Value::Object(rest)) = (&mut value, group_value(name, versions)) {
        map.extend(rest);
    }
    Some(value)
}

/// `/api/v1`, `/apis/<group>/<version>`: APIResourceList.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let rows: Vec<&Row> = schema::rows().iter().filter(|r| r.group == group && r.version == version).collect();
    if rows.is_empty() { None } else { Some(resources_of(&rows)) }
}

/// The APIResourceList of some rows of one group and version.
pub fn resources_of(rows: &[&Row]) -> Value {
    let mut list: Vec<Value> = Vec::new();
    for row in rows {
        list.push(resource_value(row));
        list.extend(row.subresources.iter().map(|sub| subresource_value(row, sub)));
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = rows.first().map_or_else(String::new, |r| r.api_version());
    let mut out = json!({ "kind": "APIResourceList" });
    if rows.first().is_some_and(|r| !r.group.is_empty()) {
        out["apiVersion"] = json!("v1"); // The core group's list has none, for the oldest clients.
    }
    out["groupVersion"] = json!(group_version);
    out["resources"] = json!(list);
    out
}

/// `/api` (`legacy`) and `/apis`, aggregated: APIGroupDiscoveryList v2.
pub fn aggregated(legacy: bool) -> Value {
    let rows: Vec<&Row> = schema::rows().iter().filter(|r| r.group.is_empty() == legacy).collect();
    aggregated_of(&rows, "v2")
}

/// The same in `v2beta1`, for clients before 1.30.
pub fn aggregated_beta(legacy: bool) -> Value {
    let rows: Vec<&Row> = schema::rows().iter().filter(|r| r.group.is_empty() == legacy).collect();
    aggregated_of(&rows, "v2beta1")
}

/// The resources of each version.
type Versions<'a> = Vec<(&'a str, Vec<Value>)>;

/// The aggregated form of some rows; those of one group stand together, its preferred version first.
pub fn aggregated_of(rows: &[&Row], version: &str) -> Value {
    let mut items: Vec<(&str, Versions<'_>)> = Vec::new();
    for row in rows {
        let at = items.iter().position(|(g, _)| *g == row.group).unwrap_or_else(|| {
            items.push((row.group, Vec::new()));
            items.len() - 1
        });
        let versions = &mut items[at].1;
        let at = versions.iter().position(|(v, _)| *v == row.version).unwrap_or_else(|| {
            versions.push((row.version, Vec::new()));
            versions.len() - 1
        });
        versions[at].1.push(discovery_value(row));
    }
    let items: Vec<Value> = items.into_iter().map(|(group, versions)| group_discovery(group, versions)).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    })
}

fn group_discovery(group: &str, versions: Versions<'_>) -> Value {
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    let versions: Vec<Value> = versions
        .into_iter()
        .map(|(version, mut resources)| {
            resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
            json!({ "version": version, "resources": resources, "freshness": "Current" })
        })
        .collect();
    json!({ "metadata": metadata, "versions": versions })
}

fn discovery_value(row: &Row) -> Value {
    let mut value = json!({
        "resource": row.resource,
        "responseKind": kind_value(row.group, row.version, row.kind),
        "scope": if row.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs.names(),
    });
    add_names(&mut value, row);
    if !row.subresources.is_empty() {
        let subresource = |s: &Subresource| json!({ "subresource": s.name, "responseKind": kind_value(s.group, s.version, s.kind), "verbs": s.verbs.names() });
        value["subresources"] = row.subresources.iter().map(subresource).collect();
    }
    value
}

fn kind_value(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn add_names(value: &mut Value, row: &Row) {
    for (key, names) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !names.is_empty() {
            value[key] = json!(names);
        }
    }
}

fn resource_value(row: &Row) -> Value {
    let mut value = json!({
        "name": row.resource, "singularName": row.singular, "namespaced": row.namespaced(), "kind": row.kind,
        "verbs": row.verbs.names(),
    });
    add_names(&mut value, row);
    value
}

fn subresource_value(row: &Row, sub: &Subresource) -> Value {
    let mut value = Map::new();
    let name = format!("{}/{}", row.resource, sub.name);
    value.insert("name".into(), json!(name));
    value.insert("singularName".into(), json!(""));
    value.insert("namespaced".into(), json!(row.namespaced()));
    if (sub.group, sub.version) != (row.group, row.version) {
        value.insert("group".into(), json!(sub.group));
        value.insert("version".into(), json!(sub.version));
    }
    value.insert("kind".into(), json!(sub.kind));
    value.insert("verbs".into(), json!(sub.verbs.names()));
    Value::Object(value)
}

fn named_groups() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    schema::groups()
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| (*group, versions.as_slice()))
}

fn group_value(name: &str, versions: &[&str]) -> Value {
    let version = |v: &&str| json!({ "groupVersion": format!("{name}/{v}"), "version": v });
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map_or(Value::Null, version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_lists_have_resources_and_subresources() {
        let list = resources("", "v1").unwrap();
        let find =
            |name: &str| list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone();
        assert_eq!(find("pods")["shortNames"], json!(["po"]));
        assert_eq!(find("pods/eviction")["group"], "policy");
        assert_eq!(find("pods/status")["verbs"], json!(["get", "patch", "update"]));
        assert_eq!(list["groupVersion"], "v1");
        assert!(resources("nothing", "v1").is_none());
    }

    #[test]
    fn groups_prefer_their_first_version() {
        assert_eq!(group("autoscaling").unwrap()["preferredVersion"]["version"], "v2");
        assert!(groups()["groups"].as_array().unwrap().iter().any(|g| g["name"] == "apps"));
    }

    #[test]
    fn the_aggregated_form_has_everything() {
        let core = aggregated(true);
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        let pods = core["items"][0]["versions"][0]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["resource"] == "pods")
            .unwrap()
            .clone();
        assert_eq!(pods["responseKind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
        assert!(pods["subresources"].as_array().unwrap().iter().any(|s| s["subresource"] == "log"));
        assert!(aggregated(false)["items"].as_array().unwrap().iter().all(|i| i["metadata"]["name"] != ""));
    }
}
