//! TaintNodesByCondition: a new node takes no pods until somebody has seen it ready.
use api::path;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) fn taint(node: &mut Value) {
    let mut taints = path::list(node, "spec.taints").to_vec();
    let is_tainted = |taint: &Value| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule";
    if !taints.iter().any(is_tainted) {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        path::entry(node, "spec").insert("taints".to_owned(), taints.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn once() {
        let mut node = json!({});
        super::taint(&mut node);
        super::taint(&mut node);
        assert_eq!(node["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
    }
}
