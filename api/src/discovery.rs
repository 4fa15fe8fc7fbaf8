//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form.

use serde_json::{Value, json};

/// `/api`: APIVersions.
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`: APIGroupList.
pub fn groups() -> Value {
    json!({})
}

/// `/apis/<group>`: APIGroup.
pub fn group(name: &str) -> Option<Value> {
    let _ = name;
    None
}

/// `/api/v1`, `/apis/<group>/<version>`: APIResourceList.
pub fn resources(group: &str, version: &str) -> Option<Value> {
    let _ = (group, version);
    None
}

/// `/api` (`legacy`) and `/apis`, aggregated: APIGroupDiscoveryList v2.
pub fn aggregated(legacy: bool) -> Value {
    let _ = legacy;
    json!({})
}
