//! DefaultTolerationSeconds: a pod bears five minutes of a node that is away, unless it says otherwise.
use api::path;
use serde_json::{Value, json};

const SECONDS: u32 = 300;

pub(super) fn admit(pod: &mut Value) {
    let mut tolerations = path::list(pod, "spec.tolerations").to_vec();
    let before = tolerations.len();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covers = |toleration: &Value| {
            let (known, effect) = (path::str(toleration, "key"), path::str(toleration, "effect"));
            (known == key || known.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !tolerations.iter().any(covers) {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    if tolerations.len() > before {
        path::entry(pod, "spec").insert("tolerations".to_owned(), tolerations.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[track_caller]
    fn check(tolerations: &Value, count: usize) {
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        super::admit(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map_or(0, Vec::len), count, "{tolerations}");
    }

    #[test]
    fn what_is_tolerated_stays() {
        check(&json!([]), 2);
        check(&json!([{"operator": "Exists"}]), 1);
        check(&json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]), 2);
        check(&json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}]), 3);
    }
}
