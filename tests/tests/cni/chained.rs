//! In one list with the reference plugins (Debian's containernetworking-plugins): tuning, bandwidth, portmap after weft-cni.
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    RANGE,
    lab::{Call, Lab, on_a_node},
    namespaces::Namespace,
};

/// Where the reference plugins are, if they are installed.
pub(crate) fn plugins() -> Option<PathBuf> {
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

#[test]
fn a_reference_plugin_comes_before() {
    let Some(directory) = plugins() else {
        eprintln!(
            "SKIPPED: no reference plugins: run `cargo xtask test`, or apt-get install containernetworking-plugins"
        );
        return;
    };
    on_a_node(RANGE, move |lab| {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            lab.pod("a");
            let namespace = Namespace::new();
            let loopback = json!({ "cniVersion": version, "name": "weft", "type": "loopback" });
            let before = lab.call("ADD", "a", &namespace).set("CNI_IFNAME", "lo").with(loopback.to_string());
            let said = before.run_by(&directory.join("loopback"));
            assert_eq!(said.status, 0, "{version}: {}", said.text);
            let before: Value = serde_json::from_str(&said.text).expect("JSON");
            let call = |command: &str, previous: &Value| {
                let config = lab.config(version, &json!({ "prevResult": previous }));
                lab.call(command, "a", &namespace).with(config)
            };
            let result = call("ADD", &before).succeeds();
            assert_eq!(result["cniVersion"], version);
            let names: Vec<&str> = result["interfaces"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            assert_eq!((names[0], names[2], names.len()), ("lo", "eth0", 3), "{result}");
            let ips = result["ips"].as_array().expect("a list");
            let ours = ips.iter().find(|ip| ip["address"].as_str().is_some_and(|ip| ip.starts_with("10.244.0.")));
            assert_eq!(ours.expect("an address")["interface"], 2, "{result}");
            assert!(ips.iter().any(|ip| ip["address"] == "127.0.0.1/8" && ip["interface"] == 0), "{result}");
            if version != "0.3.1" {
                call("CHECK", &result).succeeds();
            }
            call("DEL", &result).succeeds();
            assert_eq!(lab.traces(), [""; 0]);
        }
    });
}
