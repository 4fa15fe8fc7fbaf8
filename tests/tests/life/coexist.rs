//! Programs and filters of others on the node's own device and on a pod's: they see what they saw, and nobody displaces
//! anybody.
use aya::programs::{SchedClassifier, TcAttachType};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};
use tests::built::program;

use crate::{
    foreign::{Foreign, Place},
    lab::Node,
    namespaces::Namespace,
};

const PINGS: u64 = 5;

/// Programs on what comes in by the NIC, in their order.
fn programs(node: &Node) -> Vec<String> {
    node.within(|| {
        let (_, programs) = SchedClassifier::query_tcx("nic0", TcAttachType::Ingress).expect("a query");
        programs.iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
    })
}

/// Filters on what comes in by the NIC, as `tc` shows them, without what they have counted.
fn filters(node: &Node) -> Vec<String> {
    let text = node.run("tc filter show dev nic0 ingress");
    text.lines().filter(|line| line.contains("handle 0x")).map(str::to_owned).collect()
}

/// The host is asked from outside, and a pod asks outside.
fn ping(outside: &Namespace, pod: Option<&Namespace>) {
    outside.run(&format!("busybox ping -c {PINGS} -i 0.1 -W 2 172.31.0.11"));
    if let Some(pod) = pod {
        pod.run("busybox ping -c 1 -W 2 172.31.0.2");
    }
}

fn filter(node: &Node, verb: &'static str, priority: u16) -> Foreign {
    let pin = node.path(&format!("bpf/{verb}{priority}"));
    node.within(move || Foreign::filter(verb, "nic0 ingress", priority, &pin))
}

fn clean(node: &mut Node) {
    node.end_agent(SIGTERM);
    let (weft, places) = (program("weft"), node.places());
    let output = node.within(move || std::process::Command::new(weft).arg("cleanup").args(places).output());
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn by_tcx() {
    let (mut node, outside) = Node::one();
    let first = node.within(|| Foreign::attach("nic0", Place::First));
    node.within(|| crate::namespaces::sh("tc qdisc add dev nic0 clsact"));
    let classifier = filter(&node, "add", 1);
    node.start_agent(&["--attach", "tcx"]);
    let last = node.within(|| Foreign::attach("nic0", Place::Last));
    let (pod, _) = node.pod("a", &json!({}));
    let order = ["foreign", "from_netdev", "foreign"];
    assert_eq!(programs(&node), order);

    let counts = |classifier: &Foreign| [first.seen(), last.seen(), classifier.seen()];
    let before = counts(&classifier);
    ping(&outside, Some(&pod));
    let after = counts(&classifier);
    let more = [0, 1, 2].map(|index| after[index] - before[index]);
    assert!(more.iter().all(|more| *more >= PINGS), "each sees what comes for the host: {more:?}");
    assert!(more[0] > more[1], "what goes to a pod is ours, and those behind do not see it: {more:?}");

    node.end_agent(SIGTERM);
    node.start_agent(&["--attach", "tcx"]);
    assert_eq!(programs(&node), order, "a restart changes no order");
    let classifier = filter(&node, "replace", 1);
    let theirs = filters(&node);
    ping(&outside, Some(&pod));
    clean(&mut node);
    assert_eq!(programs(&node), ["foreign", "foreign"]);
    assert_eq!(filters(&node), theirs, "their filter is there, and its qdisc");
    let before = counts(&classifier);
    ping(&outside, None);
    assert!(counts(&classifier).iter().zip(before).all(|(now, then)| now - then >= PINGS));
}

pub(crate) fn by_clsact() {
    let (mut node, outside) = Node::one();
    node.within(|| crate::namespaces::sh("tc qdisc add dev nic0 clsact"));
    let (first, last) = (filter(&node, "add", 1), filter(&node, "add", 200));
    node.start_agent(&["--attach", "clsact"]);
    let (pod, _) = node.pod("a", &json!({}));
    let counts = || [first.seen(), last.seen()];
    let before = counts();
    ping(&outside, Some(&pod));
    let after = counts();
    let more = [after[0] - before[0], after[1] - before[1]];
    assert!(more[0] > more[1] && more[1] >= PINGS, "both see what comes for the host: {more:?}");

    // Whatever they do to theirs, ours stays; and a restart of ours touches none of theirs.
    let ours = |node: &Node| filters(node).iter().filter(|line| line.contains("from_netdev")).count();
    let (_replaced, _another) = (filter(&node, "replace", 1), filter(&node, "add", 300));
    assert_eq!(ours(&node), 1);
    node.end_agent(SIGTERM);
    node.start_agent(&["--attach", "clsact"]);
    assert_eq!((ours(&node), filters(&node).len()), (1, 4));
    ping(&outside, Some(&pod));
    clean(&mut node);
    assert_eq!((ours(&node), filters(&node).len()), (0, 3));
    let before = last.seen();
    ping(&outside, None);
    assert!(last.seen() - before >= PINGS);
}

/// A pod as `weft pod list` shows it.
fn listed(node: &Node, name: &str) -> Value {
    let (weft, socket) = (program("weft"), node.path("agent.sock"));
    let text = node.run(&format!("{} pod list -o json --socket {}", weft.display(), socket.display()));
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let pods = list["pods"].as_array().cloned().unwrap_or_default();
    pods.into_iter().find(|pod| pod["name"] == name).unwrap_or_else(|| panic!("{name} is not in {list}"))
}

/// Somebody comes to a pod's device and goes while packets do: he sees those that come after he is known, and none is lost.
pub(crate) fn on_a_pods_device() {
    let (mut node, _outside) = Node::one();
    node.start_agent(&[]);
    let (near, _) = node.pod("near", &json!({}));
    let (_far, address) = node.pod("far", &json!({}));
    let device = listed(&node, "far")["device"].as_str().expect("a name").to_owned();
    let foreign = |node: &Node| listed(node, "far")["foreign"].as_array().cloned().unwrap_or_default();
    let says =
        |node: &Node, what: &str| foreign(node).iter().any(|one| one.as_str().is_some_and(|one| one.contains(what)));
    let ping = || near.run(&format!("busybox ping -c {PINGS} -i 0.1 -W 2 {address}"));
    ping();
    assert_eq!(foreign(&node), [""; 0], "ours are not foreign");

    // The whole time: busybox says by its exit code only whether any came back, so its words are read.
    let going = near.spawn(move || {
        let mut ping = std::process::Command::new("busybox");
        ping.args(["ping", "-c", "400", "-i", "0.05", "-W", "2"]).arg(address.to_string());
        let said = ping.output().expect("busybox").stdout;
        String::from_utf8_lossy(&said).into_owned()
    });
    for place in [Place::First, Place::Last] {
        let at = device.clone();
        let program = node.within(move || Foreign::attach_egress(&at, place));
        node.wait_for("the program", || says(&node, "tcx program foreign"));
        let before = program.seen();
        ping();
        assert!(program.seen() >= before + PINGS, "it sees what goes to the pod");
        drop(program);
        node.wait_for("the program to go", || foreign(&node).is_empty());
        ping();
    }
    let (at, pin) = (format!("{device} egress"), node.path("bpf/egress"));
    let filter = node.within(move || Foreign::filter("add", &at, 1, &pin));
    node.wait_for("the filter", || says(&node, "filter bpf of priority 1"));
    let before = filter.seen();
    ping();
    assert!(filter.seen() >= before + PINGS, "it sees what goes to the pod");
    let line = format!("tc qdisc add dev {device} root pfifo limit 1000");
    node.within(move || crate::namespaces::sh(&line));
    node.wait_for("the queue", || says(&node, "queue pfifo"));
    ping();
    for line in [format!("tc filter del dev {device} egress pref 1"), format!("tc qdisc del dev {device} root")] {
        node.within(move || crate::namespaces::sh(&line));
    }
    node.wait_for("both to go", || foreign(&node).is_empty());

    // Whoever takes our own filters away has them back: without them a pod could send what it likes.
    let ours = |node: &Node| {
        let text = ["ingress", "egress"].map(|way| node.run(&format!("tc filter show dev {device} {way}"))).concat();
        ["from_pod", "to_pod"].iter().all(|name| text.contains(name))
    };
    assert!(ours(&node));
    let line = format!("tc qdisc del dev {device} clsact");
    node.within(move || crate::namespaces::sh(&line));
    node.wait_for("our filters", || ours(&node));
    ping();
    let said = going.join().expect("it ends");
    assert!(said.contains("400 packets transmitted, 400 packets received"), "{said}");
}
