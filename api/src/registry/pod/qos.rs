//! Quality of service: Guaranteed, Burstable or BestEffort, from requests and limits of CPU and memory.

use serde_json::Value;

use crate::{path, quantity::Quantity};

/// The class of a pod.
pub fn qos_class(pod: &Value) -> &'static str {
    let containers = || path::list(pod, "spec.containers").iter().chain(path::list(pod, "spec.initContainers"));
    let own = path::get(pod, "spec.resources");
    if amount(own, "requests", "cpu")
        .or(amount(own, "requests", "memory"))
        .or(amount(own, "limits", "cpu"))
        .or(amount(own, "limits", "memory"))
        .is_some()
    {
        return if is_guaranteed(own) { "Guaranteed" } else { "Burstable" };
    }
    let any = containers().any(|c| {
        let resources = path::get(c, "resources");
        ["requests", "limits"]
            .iter()
            .any(|part| ["cpu", "memory"].iter().any(|name| amount(resources, part, name).is_some()))
    });
    if !any {
        return "BestEffort";
    }
    if containers().all(|c| is_guaranteed(path::get(c, "resources"))) { "Guaranteed" } else { "Burstable" }
}

/// Both limits are there, and the requests equal them.
fn is_guaranteed(resources: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = amount(resources, "limits", name);
        limit.is_some() && amount(resources, "requests", name).is_none_or(|request| Some(request) == limit)
    })
}

/// An amount that is there and not zero.
fn amount(resources: &Value, part: &str, name: &str) -> Option<Quantity> {
    let text = path::map(resources, part)?.get(name)?.as_str()?;
    Quantity::parse(text).ok().filter(|q| !q.is_zero())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(resources: &Value, expected: &str) {
        assert_eq!(qos_class(&json!({"spec": {"containers": [{"resources": resources}]}})), expected);
    }

    #[test]
    fn classes() {
        check(&json!({}), "BestEffort");
        check(&json!({"requests": {"cpu": "1"}}), "Burstable");
        check(&json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed");
        check(
            &json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
            "Guaranteed",
        );
        check(&json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable");
        check(&json!({"requests": {"example.com/gpu": "1"}}), "BestEffort");
    }
}
