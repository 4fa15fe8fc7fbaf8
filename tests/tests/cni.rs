//! The CNI plugin as container runtimes call it, against the real agent: specification 1.1.0, every command and version.
#[path = "../../agent/tests/node/api.rs"]
mod api;
#[path = "cni/away.rs"]
mod away;
#[path = "cni/chained.rs"]
mod chained;
#[path = "least_rights/cluster.rs"]
#[expect(dead_code, reason = "shared with least_rights, which also restarts things")]
mod cluster;
#[path = "cni/containerd.rs"]
mod containerd;
#[path = "cni/cri.rs"]
mod cri;
#[path = "cni/lab.rs"]
mod lab;
#[path = "cni/many.rs"]
mod many;
#[path = "../../agent/tests/node/namespaces.rs"]
mod namespaces;
#[path = "least_rights/proxy.rs"]
#[expect(dead_code, reason = "shared with least_rights, which looks at what it noted")]
mod proxy;
#[path = "cni/wishes.rs"]
mod wishes;

use lab::{Call, Lab, on_a_node};
use namespaces::Namespace;
use serde_json::{Value, json};

const RANGE: &str = "10.244.0.0/24";

#[test]
fn every_version_says_it_in_its_own_words() {
    on_a_node(RANGE, |lab| {
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            lab.pod("a");
            let namespace = Namespace::new();
            let call =
                |command: &str, fields: Value| lab.call(command, "a", &namespace).with(lab.config(version, &fields));
            let result = call("ADD", json!({ "dns": { "nameservers": ["10.96.0.10"] } })).succeeds();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["dns"]["nameservers"][0], "10.96.0.10");
            let (near, far) = (&result["interfaces"][0], &result["interfaces"][1]);
            assert!(near["name"].as_str().is_some_and(|name| name.starts_with("weft")) && near["sandbox"].is_null());
            assert_eq!((&far["name"], &far["sandbox"]), (&json!("eth0"), &json!(namespace.path)));
            assert_eq!(far["mtu"].is_u64(), version == "1.1.0", "{version}: {far}");
            assert_eq!(result["ips"][0]["interface"], 1);
            assert_eq!(result["ips"][0]["version"] == "4", version.starts_with("0."), "{version}: {result}");
            let again = json!({ "prevResult": result });
            match version {
                "0.3.1" => call("CHECK", again.clone()).fails(1, "CHECK"),
                _ => assert_eq!(call("CHECK", again.clone()).succeeds(), Value::Null),
            }
            let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "c-a", "ifname": "eth0" }] });
            match version {
                "1.1.0" => {
                    call("STATUS", json!({})).succeeds();
                    call("GC", valid).succeeds();
                    call("CHECK", again.clone()).succeeds();
                }
                _ => {
                    call("STATUS", json!({})).fails(1, "STATUS");
                    call("GC", valid).fails(1, "GC");
                }
            }
            call("DEL", again.clone()).succeeds();
            call("DEL", again).succeeds();
            assert_eq!(lab.traces(), [""; 0]);
        }
    });
}

#[test]
fn what_is_wrong_is_named() {
    on_a_node(RANGE, |lab| {
        let namespace = Namespace::new();
        lab.pod("a");
        let add = || lab.call("ADD", "a", &namespace);
        let config = |fields: Value| add().with(lab.config("1.1.0", &fields));
        add().set("CNI_COMMAND", "").fails(4, "CNI_COMMAND");
        add().set("CNI_COMMAND", "ADDED").fails(4, "CNI_COMMAND");
        add().set("CNI_CONTAINERID", "").fails(4, "CNI_CONTAINERID");
        add().set("CNI_CONTAINERID", "../../etc").fails(4, "CNI_CONTAINERID");
        add().set("CNI_IFNAME", "").fails(4, "CNI_IFNAME");
        add().set("CNI_IFNAME", "a-name-too-long-").fails(4, "CNI_IFNAME");
        add().set("CNI_NETNS", "").fails(4, "CNI_NETNS");
        add().set("CNI_NETNS", "/no/such/netns").fails(4, "CNI_NETNS");
        add().set("CNI_NETNS", "/etc/hostname").fails(4, "CNI_NETNS");
        let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
        add().set("CNI_NETNS", own).fails(4, "the node's own network namespace");
        add().set("CNI_ARGS", "x").fails(4, "CNI_ARGS");
        add().set("CNI_ARGS", "IgnoreUnknown=1").fails(4, "K8S_POD_NAME");
        add().with("{".into()).fails(6, "standard input");
        add().with("[]".into()).fails(6, "standard input");
        add().with(" ".repeat(2 << 20)).fails(6, "1 MiB");
        add().with(lab.config("0.2.0", &json!({}))).fails(1, "0.2.0");
        config(json!({ "name": "" })).fails(7, "name");
        config(json!({ "type": 7 })).fails(7, "type");
        config(json!({ "socket": "run/agent.sock" })).fails(7, "socket");
        config(json!({ "timeoutSeconds": -1 })).fails(7, "timeoutSeconds");
        config(json!({ "prevResult": [] })).fails(7, "prevResult");
        config(json!({ "ipam": { "type": "host-local" } })).fails(2, "host-local");
        config(json!({ "runtimeConfig": { "ipRanges": [["10.0.0.0/8"]] } })).fails(2, "runtimeConfig.ipRanges");
        config(json!({ "runtimeConfig": { "mac": "01:00:00:00:00:01" } })).fails(7, "runtimeConfig.mac");
        config(json!({ "runtimeConfig": { "ips": ["192.0.2.7/24"] } })).fails(7, "192.0.2.7");
        config(json!({ "runtimeConfig": { "bandwidth": { "egressRate": "1M" } } })).fails(7, "egressRate");
        let made = json!({ "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/x" }] });
        config(json!({ "prevResult": made })).fails(7, "put it first");
        lab.call("CHECK", "a", &namespace).fails(7, "prevResult");
        lab.call("GC", "a", &namespace).fails(7, "cni.dev/valid-attachments");
        assert_eq!(lab.traces(), [""; 0], "a refused ADD leaves nothing");
        // An interface of that name that is not ours stays as it is.
        namespace.run("ip link add eth0 type veth peer name other");
        add().fails(4, "CNI_IFNAME");
        namespace.run("ip link show other");
        assert_eq!(lab.traces(), [""; 0]);
        let version = add().set("CNI_COMMAND", "VERSION").with(r#"{"cniVersion":"1.0.0"}"#.into()).succeeds();
        assert_eq!(
            version,
            json!({ "cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] })
        );
    });
}

#[track_caller]
fn check_after(lab: &Lab, name: &str, damage: &str, code: u32, names: &str) {
    lab.pod(name);
    let namespace = Namespace::new();
    let result = lab.call("ADD", name, &namespace).succeeds();
    let check = lab.call("CHECK", name, &namespace).with(lab.config("1.1.0", &json!({ "prevResult": result })));
    check.succeeds();
    match damage.strip_prefix("node: ") {
        Some(line) => {
            namespaces::sh(&line.replace("DEVICE", result["interfaces"][0]["name"].as_str().expect("a name")));
        }
        None => namespace.run(&damage.replace("ADDRESS", result["ips"][0]["address"].as_str().expect("an address"))),
    }
    check.fails(code, names);
    lab.call("DEL", name, &namespace).succeeds();
}

#[test]
fn check_sees_what_is_missing() {
    on_a_node(RANGE, |lab| {
        check_after(lab, "a", "ip addr del ADDRESS dev eth0", 103, "the address");
        check_after(lab, "b", "ip link del eth0", 103, "the host's end");
        check_after(lab, "c", "ip link set eth0 down", 103, "the pod's end");
        check_after(lab, "d", "ip route del default", 103, "the default route");
        check_after(lab, "e", "node: ip link set DEVICE down", 103, "the host's end");
        check_after(lab, "f", "ip link set eth0 address 02:00:00:00:00:01", 103, "the pod's end");
        assert_eq!(lab.traces(), [""; 0]);
        // What the previous result says otherwise, and what nobody knows.
        lab.pod("a");
        let namespace = Namespace::new();
        let result = lab.call("ADD", "a", &namespace).succeeds();
        let check = |edit: &dyn Fn(&mut Value)| {
            let mut previous = result.clone();
            edit(&mut previous);
            lab.call("CHECK", "a", &namespace).with(lab.config("1.1.0", &json!({ "prevResult": previous })))
        };
        check(&|_| ()).succeeds();
        check(&|p| p["ips"][0]["address"] = "10.244.0.99/32".into()).fails(103, "is not among them");
        check(&|p| p["interfaces"] = json!([])).fails(103, "is not among them");
        check(&|p| p["interfaces"].as_array_mut().expect("a list").push(json!({ "name": "lo" }))).succeeds();
        check(&|_| ()).set("CNI_CONTAINERID", "c-unknown").fails(3, "c-unknown");
        check(&|_| ()).set("CNI_IFNAME", "eth1").fails(3, "eth1");
    });
}

#[test]
fn add_twice_chained_and_a_second_interface() {
    on_a_node(RANGE, |lab| {
        lab.pod("a");
        let namespace = Namespace::new();
        let add = lab.call("ADD", "a", &namespace);
        let first = add.succeeds();
        // The specification: an interface of that name is an error, and it stays as it is.
        add.fails(4, "DEL must come before another ADD");
        let previous = json!({ "prevResult": first });
        lab.call("CHECK", "a", &namespace).with(lab.config("1.1.0", &previous)).succeeds();
        // Behind another plugin: its result stays, and ours counts on.
        let before = json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "tun0" }],
            "ips": [{ "address": "192.0.2.7/24", "interface": 0 }], "dns": { "domain": "example.org" } });
        let second = add.clone().set("CNI_IFNAME", "net1").with(lab.config("1.1.0", &json!({ "prevResult": before })));
        let second = second.succeeds();
        assert_eq!(second["interfaces"][0]["name"], "tun0");
        assert_eq!((&second["interfaces"][2]["name"], &second["ips"][1]["interface"]), (&json!("net1"), &json!(2)));
        assert_eq!(second["dns"]["domain"], "example.org");
        assert_ne!(second["ips"][1]["address"], first["ips"][0]["address"]);
        // Of two at once, one succeeds.
        lab.pod("b");
        let other = Namespace::new();
        let add = lab.call("ADD", "b", &other);
        let both: Vec<Call> = vec![add.clone(), add];
        let both: Vec<_> = both.into_iter().map(|call| std::thread::spawn(move || call.run())).collect();
        let mut codes: Vec<i32> = both.into_iter().map(|call| call.join().expect("no panic").status).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1]);
        lab.call("DEL", "b", &other).succeeds();
        lab.call("DEL", "a", &namespace).set("CNI_IFNAME", "net1").succeeds();
        lab.call("DEL", "a", &namespace).succeeds();
        assert_eq!(lab.traces(), [""; 0]);
    });
}

#[test]
fn gc_releases_what_is_not_listed() {
    on_a_node(RANGE, |lab| {
        let namespaces: Vec<(&str, Namespace)> = ["a", "b", "c"].map(|name| (name, Namespace::new())).into();
        for (name, namespace) in &namespaces {
            lab.pod(name);
            // c is of another network: GC of ours is none of its business.
            let network = if *name == "c" { "other" } else { "weft" };
            let config = lab.config("1.1.0", &json!({ "name": network }));
            lab.call("ADD", name, namespace).with(config).succeeds();
        }
        let gc = |network: &str, names: &[&str]| {
            let valid: Vec<Value> =
                names.iter().map(|name| json!({ "containerID": format!("c-{name}"), "ifname": "eth0" })).collect();
            let fields = json!({ "name": network, "cni.dev/valid-attachments": valid });
            let config = lab.config("1.1.0", &fields);
            // A runtime sets no CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME for GC.
            let variables = vec![("CNI_COMMAND", "GC".to_owned()), ("CNI_PATH", "/opt/cni/bin".to_owned())];
            Call { variables, config }.succeeds();
        };
        let owners = || {
            let mut owners: Vec<String> = lab.traces().into_iter().filter(|trace| trace.contains("address")).collect();
            owners.iter_mut().for_each(|owner| *owner = owner.rsplit('"').nth(1).expect("a name").to_owned());
            owners
        };
        gc("weft", &["a", "b"]);
        assert_eq!(owners(), ["a", "b", "c"]);
        gc("weft", &["b", "unknown"]);
        assert_eq!(owners(), ["b", "c"]);
        gc("weft", &[]);
        assert_eq!(owners(), ["c"]);
        gc("other", &[]);
        assert_eq!(lab.traces(), [""; 0]);
    });
}
