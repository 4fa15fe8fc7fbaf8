//! NetworkPolicy as its users meet it: real pods on two nodes, stock kubectl, every flow between all of them after each
//! change.
//!
//! What the tables decide is held against the oracle in `policy_tables.rs`; this is the way from the API to the packet, and
//! that `weft policy explain` says of the live cluster what the packets say.
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use tests::{Cluster, Kubectl, kubectl::versions};

const PATIENCE: Duration = Duration::from_secs(30);
const PODS: [&str; 4] = ["left/a", "left/b", "right/a", "right/b"];
const PORTS: [u16; 2] = [80, 81];

/// What is applied, and the flows into left/a that it leaves, as `from:port`; all other flows between pods are open.
struct Case {
    name: &'static str,
    spec: &'static str,
    into_a: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "no policy", spec: "", into_a: "left/b:80 left/b:81 right/a:80 right/a:81 right/b:80 right/b:81" },
    Case { name: "default deny", spec: "{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}", into_a: "" },
    Case {
        name: "an empty rule allows everybody",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{}]}",
        into_a: "left/b:80 left/b:81 right/a:80 right/a:81 right/b:80 right/b:81",
    },
    Case {
        name: "pods of the namespace",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {}}]}]}",
        into_a: "left/b:80 left/b:81",
    },
    Case {
        name: "pods of another namespace, by a named port",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: right}}, podSelector: {matchLabels: {app: b}}}], ports: [{port: web}]}]}",
        into_a: "right/b:80",
    },
    Case {
        name: "either of two peers",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: right}}}, {podSelector: {matchLabels: {app: b}}}]}]}",
        into_a: "left/b:80 left/b:81 right/a:80 right/a:81 right/b:80 right/b:81",
    },
    Case {
        name: "a range of ports",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 81, endPort: 90}]}]}",
        into_a: "left/b:81 right/a:81 right/b:81",
    },
    Case {
        name: "a block of addresses but one of them",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [RIGHT_A/32]}}]}]}",
        into_a: "left/b:80 left/b:81 right/b:80 right/b:81",
    },
    Case {
        name: "SCTP opens nothing for TCP",
        spec: "{podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80, protocol: SCTP}]}]}",
        into_a: "",
    },
];

/// `namespace/name` → address.
type Addresses = BTreeMap<&'static str, String>;

fn addresses(kubectl: &Kubectl) -> Addresses {
    let of = |pod: &str| {
        let (namespace, name) = pod.split_once('/').expect("a namespace");
        kubectl.good(&["-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.podIP}"])
    };
    PODS.iter().map(|pod| (*pod, of(pod))).collect()
}

/// The flows that pass from a pod, as `from>to:port`: one exec asks all of them at once.
fn passing(kubectl: &Kubectl, from: &str, addresses: &Addresses) -> Vec<String> {
    let (namespace, name) = from.split_once('/').expect("a namespace");
    let mut script = String::new();
    for (to, address) in addresses.iter().filter(|(to, _)| **to != from) {
        for port in PORTS {
            script +=
                &format!("(nc -w 1 {address} {port} </dev/null >/dev/null 2>&1 && echo '{from}>{to}:{port}') &\n");
        }
    }
    let output = kubectl.good(&["-n", namespace, "exec", name, "--", "sh", "-c", &format!("{script}wait")]);
    output.lines().map(str::to_owned).collect()
}

/// All flows that pass, sorted.
fn all_passing(kubectl: &Kubectl, addresses: &Addresses) -> Vec<String> {
    let mut flows: Vec<String> = thread::scope(|scope| {
        let asked = PODS.map(|pod| scope.spawn(move || passing(kubectl, pod, addresses)));
        asked.into_iter().flat_map(|one| one.join().expect("no panic")).collect()
    });
    flows.sort();
    flows
}

fn expected(into_a: &str) -> Vec<String> {
    let mut flows: Vec<String> = into_a.split_whitespace().map(|flow| flow.replacen(':', ">left/a:", 1)).collect();
    for from in PODS {
        for to in PODS.iter().filter(|to| **to != from && **to != "left/a") {
            flows.extend(PORTS.map(|port| format!("{from}>{to}:{port}")));
        }
    }
    flows.sort();
    flows
}

#[track_caller]
fn comes(what: &str, kubectl: &Kubectl, addresses: &Addresses, flows: &[String]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = all_passing(kubectl, addresses);
        if seen == flows {
            return;
        }
        assert!(Instant::now() < end, "{what}\nexpected {flows:?}\nseen {seen:?}");
    }
}

fn policy(spec: &str, addresses: &Addresses) -> String {
    let spec = spec.replace("RIGHT_A", &addresses["right/a"]);
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: left}}\nspec: {spec}\n"
    )
}

/// What `weft policy explain` says of each flow into left/a.
fn explained(cluster: &Cluster, case: &Case) {
    let allowed: Vec<&str> = case.into_a.split_whitespace().collect();
    for from in PODS.iter().filter(|from| **from != "left/a") {
        for port in PORTS {
            let to = format!("left/a:{port}");
            let output = cluster.weft(&["policy", "explain", "--from", from, "--to", &to]);
            let code = i32::from(!allowed.contains(&format!("{from}:{port}").as_str()));
            assert_eq!(output.status.code(), Some(code), "{}: {from} to {to}: {output:?}", case.name);
        }
    }
}

#[test]
fn policies_between_pods_on_two_nodes() {
    let cluster = Cluster::up("policy", &["busybox-1.0"], &["--nodes", "2"]);
    let kubectl = cluster.kubectl(&versions(&[33])[0]);
    kubectl.apply(include_str!("policy/pods.yaml"));
    for namespace in ["left", "right"] {
        kubectl.good(&["-n", namespace, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    }
    let addresses = addresses(&kubectl);
    for case in CASES {
        if !case.spec.is_empty() {
            kubectl.apply(&policy(case.spec, &addresses));
        }
        comes(case.name, &kubectl, &addresses, &expected(case.into_a));
        explained(&cluster, case);
    }
    labels(&kubectl, &addresses);
    egress(&kubectl, &addresses);
    // Under every policy the node asked its own pods, and none was restarted or unready for it.
    let ready =
        kubectl.good(&["-n", "left", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].ready}"]);
    assert_eq!(ready, "true true");
}

/// A label that changes opens and closes, of a pod and of a namespace.
fn labels(kubectl: &Kubectl, addresses: &Addresses) {
    let spec = "{podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: right}}, podSelector: {matchLabels: {role: friend}}}]}]}";
    kubectl.apply(&policy(spec, addresses));
    comes("nobody has the label", kubectl, addresses, &expected(""));
    kubectl.good(&["-n", "right", "label", "pod", "b", "role=friend"]);
    comes("the pod has it", kubectl, addresses, &expected("right/b:80 right/b:81"));
    kubectl.good(&["label", "namespace", "right", "team-", "--overwrite"]);
    comes("the namespace has lost its own", kubectl, addresses, &expected(""));
    kubectl.good(&["label", "namespace", "right", "team=right"]);
    comes("and has it again", kubectl, addresses, &expected("right/b:80 right/b:81"));
}

/// Egress is judged where the flow begins.
fn egress(kubectl: &Kubectl, addresses: &Addresses) {
    let spec = "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: 80}]}]}";
    kubectl.apply(&policy(spec, addresses));
    let everything = "left/b:80 left/b:81 right/a:80 right/a:81 right/b:80 right/b:81";
    let mut flows = expected(everything);
    flows.retain(|flow| !flow.starts_with("left/a>") || flow == "left/a>left/b:80");
    comes("egress to the namespace's pods by one port", kubectl, addresses, &flows);
    kubectl.good(&["-n", "left", "delete", "networkpolicy", "p"]);
    comes("without a policy all is open", kubectl, addresses, &expected(everything));
}
