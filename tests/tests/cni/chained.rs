//! In one list with the reference plugins (Debian's containernetworking-plugins): tuning, bandwidth, portmap after weft-cni.
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    RANGE,
    lab::{Call, Lab, on_a_node},
    namespaces::Namespace,
};

/// Where the reference plugins are, if they are installed.
fn plugins() -> Option<PathBuf> {
    let named = std::env::var_os("WEFT_CNI_PLUGINS").map(PathBuf::from);
    named.into_iter().chain(["/usr/lib/cni".into(), "/opt/cni/bin".into()]).find(|path| path.join("tuning").exists())
}

/// One call of each plugin of the list in its order; the last result.
fn whole_list(lab: &Lab, command: &str, version: &str, namespace: &Namespace, last: Value) -> Value {
    let directory = plugins().expect("checked before");
    let weft = lab.call(command, "a", namespace);
    let config = |kind: &str, fields: Value, previous: &Value| {
        let mut config = json!({ "cniVersion": version, "name": "weft", "type": kind });
        fields.as_object().into_iter().flatten().for_each(|(key, value)| config[key] = value.clone());
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        config.to_string()
    };
    let mut result = last;
    let socket = json!({ "socket": lab.path("agent.sock") });
    let first = Call { config: config("weft-cni", socket, &result), ..weft.clone() };
    let said = first.run();
    assert_eq!(said.status, 0, "{command} of weft-cni: {}", said.text);
    result = serde_json::from_str(&said.text).unwrap_or(result);
    let rest = [
        ("tuning", json!({ "sysctl": { "net.ipv4.tcp_retries2": "7" } })),
        (
            "bandwidth",
            json!({ "runtimeConfig": { "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 800_000 } } }),
        ),
    ];
    for (kind, fields) in rest {
        let call = Call { config: config(kind, fields, &result), ..weft.clone() };
        let said = call.run_by(&directory.join(kind));
        assert_eq!(said.status, 0, "{command} of {kind}: {}", said.text);
        result = serde_json::from_str(&said.text).unwrap_or(result);
    }
    result
}

#[test]
fn the_reference_plugins_come_after() {
    if plugins().is_none() {
        eprintln!(
            "SKIPPED: no reference plugins: run `cargo xtask test`, or apt-get install containernetworking-plugins"
        );
        return;
    }
    on_a_node(RANGE, |lab| {
        for version in ["0.4.0", "1.0.0"] {
            lab.pod("a");
            let namespace = Namespace::new();
            let result = whole_list(lab, "ADD", version, &namespace, Value::Null);
            assert_eq!(result["cniVersion"], version);
            assert!(result["interfaces"].as_array().is_some_and(|list| list.len() >= 2), "{result}");
            let set =
                namespace.within(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_retries2")).expect("a setting");
            assert_eq!(set.trim(), "7");
            whole_list(lab, "CHECK", version, &namespace, result.clone());
            whole_list(lab, "DEL", version, &namespace, result);
            assert_eq!(lab.traces(), [""; 0]);
        }
    });
}
