//! What runtimes and Pods ask beyond an interface: host ports, addresses, MAC addresses and rates, with real packets.
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    RANGE,
    lab::{Call, Lab, on_a_node},
    namespaces::Namespace,
};

const NODE: &str = "172.31.0.11";
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(20);

/// ADD with a runtime configuration.
pub(crate) fn add(lab: &Lab, name: &str, namespace: &Namespace, granted: &Value) -> Call {
    lab.call("ADD", name, namespace).with(lab.config("1.1.0", &json!({ "runtimeConfig": granted })))
}

/// Answers every connection and datagram to these ports with the name.
fn serve(namespace: &Namespace, name: &'static str, tcp: u16, udp: u16) {
    namespace.within(move || {
        let listener = TcpListener::bind(("0.0.0.0", tcp)).expect("a port");
        let socket = UdpSocket::bind(("0.0.0.0", udp)).expect("a port");
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|mut stream| drop(stream.write_all(name.as_bytes())));
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    });
}

/// Who answers; nobody is empty.
fn ask_tcp(from: &Namespace, port: u16) -> String {
    from.within(move || {
        let address = format!("{NODE}:{port}").parse().expect("an address");
        let Ok(mut stream) = TcpStream::connect_timeout(&address, SHORT) else { return String::new() };
        stream.set_read_timeout(Some(SHORT)).expect("a socket");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    })
}

fn ask_udp(from: &Namespace, port: u16) -> String {
    from.within(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        socket.set_read_timeout(Some(SHORT)).expect("a socket");
        let mut bytes = [0; 64];
        let answer = socket.send_to(b"?", (NODE, port)).and_then(|_| socket.recv(&mut bytes));
        answer.map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned()).unwrap_or_default()
    })
}

#[test]
fn host_ports_without_a_plugin() {
    on_a_node(RANGE, |lab| {
        let (a, b) = (Namespace::new(), Namespace::new());
        ["a", "b", "c"].iter().for_each(|name| lab.pod(name));
        let wanted = json!({ "portMappings": [
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
            { "hostPort": 5353, "containerPort": 53, "protocol": "UDP", "hostIP": NODE }] });
        add(lab, "a", &a, &wanted).succeeds();
        serve(&a, "a", 80, 53);
        let reaches = |lab: &Lab, tcp: &str, udp: &str| {
            lab.wait_for("the host ports", |lab| {
                ask_tcp(&lab.outside, 8080) == tcp && ask_udp(&lab.outside, 5353) == udp
            });
        };
        reaches(lab, "a", "a");
        // Another pod of the node asks at the node's address, too, and the pod itself.
        add(lab, "b", &b, &json!({})).succeeds();
        assert_eq!((ask_tcp(&b, 8080), ask_udp(&b, 5353)), ("a".into(), "a".into()));
        assert_eq!(ask_tcp(&a, 8080), "a");
        // Conflicts name whose it is; what is no conflict is granted.
        let c = Namespace::new();
        let port = |port: u16, more: Value| {
            let mut mapping = json!({ "hostPort": port, "containerPort": 80 });
            more.as_object().into_iter().flatten().for_each(|(key, value)| mapping[key] = value.clone());
            add(lab, "c", &c, &json!({ "portMappings": [mapping] }))
        };
        port(8080, json!({})).fails(104, "default/a");
        port(8080, json!({ "hostIP": NODE })).fails(104, "default/a");
        port(5353, json!({ "protocol": "udp" })).fails(104, "default/a");
        port(8080, json!({ "hostIP": "192.0.2.9" })).fails(7, "no address of this node");
        port(8080, json!({ "hostIP": "127.0.0.1" })).fails(7, "no address of this node");
        port(9, json!({ "protocol": "sctp" })).fails(2, "sctp");
        let listener = TcpListener::bind((NODE, 9090)).expect("a port");
        port(9090, json!({})).fails(104, "a program of the node");
        drop(listener);
        port(9090, json!({})).succeeds();
        // They outlive the agent, and the next one knows them.
        lab.kill_agent();
        assert_eq!(ask_tcp(&lab.outside, 8080), "a");
        lab.start_agent();
        reaches(lab, "a", "a");
        let d = Namespace::new();
        lab.pod("d");
        let mapping = json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80 }] });
        add(lab, "d", &d, &mapping).fails(104, "default/a");
        // Gone with the pod, and another's then.
        lab.call("DEL", "a", &a).succeeds();
        reaches(lab, "", "");
        lab.call("DEL", "b", &b).succeeds();
        port_of_b(lab, &b).succeeds();
        serve(&b, "b", 80, 53);
        lab.wait_for("b's host port", |lab| ask_tcp(&lab.outside, 8080) == "b");
    });
}

fn port_of_b(lab: &Lab, namespace: &Namespace) -> Call {
    add(lab, "b", namespace, &json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80 }] }))
}

#[test]
fn addresses_that_were_asked_for() {
    on_a_node(RANGE, |lab| {
        let (a, b) = (Namespace::new(), Namespace::new());
        lab.pod("a");
        let asked = json!({ "ips": ["10.244.0.77/24"], "mac": "02:11:22:33:44:55" });
        let result = add(lab, "a", &a, &asked).succeeds();
        assert_eq!(result["ips"][0]["address"], "10.244.0.77/32");
        assert_eq!(result["interfaces"][1]["mac"], "02:11:22:33:44:55");
        let previous = json!({ "prevResult": result });
        lab.call("CHECK", "a", &a).with(lab.config("1.1.0", &previous)).succeeds();
        // By annotation, also if the API tells of the pod only while ADD waits.
        let waiting = add(lab, "b", &b, &json!({}));
        let waiting = std::thread::spawn(move || waiting.succeeds());
        lab.wait_for("an interface", |lab| lab.traces().iter().any(|trace| trace.contains("of \"b\"")));
        lab.annotated("b", &json!({ "weft.net/pod-ips": "10.244.0.88" }));
        assert_eq!(waiting.join().expect("it succeeds")["ips"][0]["address"], "10.244.0.88/32");
        let c = Namespace::new();
        // A pod each: the agent may not have heard of a change of one yet.
        let refused = |pod: &str, annotation: &str, code: u32, names: &str| {
            lab.annotated(pod, &json!({ "weft.net/pod-ips": annotation }));
            add(lab, pod, &c, &json!({})).fails(code, names);
        };
        refused("c1", "10.244.0.77", 104, "default/a");
        refused("c2", "10.244.9.9", 7, "10.244.0.0/24");
        refused("c3", "10.244.0.1", 7, "10.244.0.1");
        refused("c4", "nonsense", 7, "weft.net/pod-ips");
        for (name, namespace) in [("a", &a), ("b", &b)] {
            lab.call("DEL", name, namespace).succeeds();
        }
        assert_eq!(lab.traces(), [""; 0]);
    });
}

/// Two megabytes from a client to a server at that address; how long they took.
fn two_megabytes(from: &Namespace, to: &Namespace, listen: u16, address: String) -> Duration {
    let server = to.within(move || TcpListener::bind(("0.0.0.0", listen)).expect("a port"));
    let receiving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("a client");
        stream.set_read_timeout(Some(LONG)).expect("a socket");
        std::io::copy(&mut stream, &mut std::io::sink()).expect("read")
    });
    let start = Instant::now();
    from.within(move || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_write_timeout(Some(LONG)).expect("a socket");
        stream.write_all(&vec![0; 2_000_000]).expect("sent");
    });
    assert_eq!(receiving.join().expect("it ends"), 2_000_000);
    start.elapsed()
}

#[test]
fn rates_are_kept() {
    on_a_node(RANGE, |lab| {
        let (a, b) = (Namespace::new(), Namespace::new());
        // 8 Mbit/s: two megabytes take two seconds but for the bucket's content; never less, however fast the machine is.
        let limits = json!({ "kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "8M" });
        lab.annotated("a", &limits);
        lab.pod("b");
        let port = |number: u16| json!([{ "hostPort": number, "containerPort": 81 }]);
        let made = add(lab, "a", &a, &json!({ "portMappings": port(8081) })).succeeds();
        let limits = json!({ "egressRate": 8_000_000, "ingressRate": 8_000_000, "egressBurst": i32::MAX });
        add(lab, "b", &b, &json!({ "portMappings": port(8082), "bandwidth": limits })).succeeds();
        for (pod, number) in [(&a, 8081), (&b, 8082)] {
            let into = two_megabytes(&lab.outside, pod, 81, format!("{NODE}:{number}"));
            let out = two_megabytes(pod, &lab.outside, 82, "172.31.0.2:82".into());
            println!("two megabytes at 8 Mbit/s: to the pod {into:.1?}, from it {out:.1?}");
            assert!(into > Duration::from_millis(1_500) && out > Duration::from_millis(1_500), "{into:?} {out:?}");
        }
        let c = Namespace::new();
        lab.annotated("c", &json!({ "kubernetes.io/ingress-bandwidth": "fast" }));
        add(lab, "c", &c, &json!({})).fails(7, "kubernetes.io/ingress-bandwidth");
        // Of the same node, too: through the queue of the pod's device, and not past it.
        let (device, before) = (device_of(&made), queued(&device_of(&made)));
        two_megabytes(&b, &a, 84, format!("{}:84", address_of(&made)));
        assert!(queued(&device) >= before + 2_000_000, "{before} bytes, then {}", queued(&device));
        lab.call("DEL", "a", &a).succeeds();
        // Nothing of it is left for the next pod.
        lab.pod("d");
        let made = add(lab, "d", &a, &json!({})).succeeds();
        assert_eq!(queued(&device_of(&made)), 0);
        lab.call("DEL", "d", &a).succeeds();
        lab.call("DEL", "b", &b).succeeds();
        assert_eq!(lab.traces(), [""; 0]);
    });
}

fn device_of(made: &Value) -> String {
    made["interfaces"][0]["name"].as_str().expect("a name").to_owned()
}

fn address_of(made: &Value) -> &str {
    made["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()).expect("an address")
}

/// Bytes that have passed the limit's queue on a device; 0 without one.
fn queued(device: &str) -> u64 {
    let output = Command::new("tc").args(["-s", "qdisc", "show", "dev", device]).output().expect("iproute2");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, of_tbf)) = text.split_once("qdisc tbf") else { return 0 };
    let sent = of_tbf.split_once(" Sent ").and_then(|(_, rest)| rest.split(' ').next());
    sent.and_then(|sent| sent.parse().ok()).expect("a count")
}

#[test]
fn a_burst_is_cut_and_nobody_starves() {
    on_a_node(RANGE, |lab| {
        let a = Namespace::new();
        lab.annotated("a", &json!({ "kubernetes.io/egress-bandwidth": "1M" }));
        let made = add(lab, "a", &a, &json!({})).succeeds();
        assert_eq!(queued(&device_of(&made)), 0, "what it sends waits nowhere");
        let receiver = lab.outside.within(|| UdpSocket::bind(("0.0.0.0", 83)).expect("a port"));
        receiver.set_read_timeout(Some(SHORT)).expect("a socket");
        let counted = std::thread::spawn(move || {
            let mut bytes = [0; 2_000];
            std::iter::from_fn(|| receiver.recv(&mut bytes).ok()).count()
        });
        // Three times the bucket at once: 80 KiB pass, and what a second's worth (125 kB) adds meanwhile.
        a.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            (0..300).for_each(|_| assert_eq!(socket.send_to(&[0; 1_000], "172.31.0.2:83").expect("sent"), 1_000));
        });
        let passed = counted.join().expect("it ends");
        println!("of 300 datagrams of 1,000 bytes at once, limited to 1 Mbit/s, {passed} passed");
        assert!((40..300).contains(&passed), "{passed}");
        // TCP slows down instead, and gets all of it through.
        let listener = lab.outside.within(|| TcpListener::bind(("0.0.0.0", 85)).expect("a port"));
        let received = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(LONG)).expect("a socket");
            std::io::copy(&mut stream, &mut std::io::sink()).expect("read")
        });
        a.within(|| {
            let mut stream = TcpStream::connect("172.31.0.2:85").expect("it listens");
            stream.set_write_timeout(Some(LONG)).expect("a socket");
            stream.write_all(&[0; 200_000]).expect("sent");
        });
        assert_eq!(received.join().expect("it ends"), 200_000);
    });
}
