//! An agent that is absent, refuses, hangs or answers late, and pods and namespaces that come late or go early.
use std::{
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    RANGE,
    lab::{Call, Lab, PODS, on_a_node},
    namespaces::{self, Namespace},
};

/// More than the deadline of the calls below, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// Every command, with two seconds.
fn calls(lab: &Lab, socket: &str, namespace: &Namespace) -> Vec<(&'static str, Call)> {
    let fields = json!({ "socket": lab.path(socket), "timeoutSeconds": 2, "prevResult": {},
        "cni.dev/valid-attachments": [] });
    let call = |command| (command, lab.call(command, "a", namespace).with(lab.config("1.1.0", &fields)));
    ["ADD", "DEL", "CHECK", "GC", "STATUS"].map(call).into()
}

#[track_caller]
fn check_away(lab: &Lab, socket: &str, names: &str) {
    let namespace = Namespace::new();
    for (command, call) in calls(lab, socket, &namespace) {
        let start = Instant::now();
        call.fails(if command == "STATUS" { 50 } else { 11 }, names);
        assert!(start.elapsed() < SOON, "{command} took {:?}", start.elapsed());
    }
}

#[test]
fn try_again_later() {
    on_a_node(RANGE, |lab| {
        lab.pod("a");
        check_away(lab, "nobody.sock", "is `weft agent` running");
        drop(UnixListener::bind(lab.path("left.sock")).expect("bound"));
        check_away(lab, "left.sock", "nobody listens");
        let hung = UnixListener::bind(lab.path("hung.sock")).expect("bound");
        let listening = hung.try_clone().expect("cloned");
        // Accepts, and says nothing; the clones keep the connections open.
        std::thread::spawn(move || listening.incoming().flatten().collect::<Vec<_>>());
        check_away(lab, "hung.sock", "within 2s");
        drop(hung);
        assert_eq!(lab.traces(), [""; 0]);
    });
}

#[test]
fn an_answer_that_comes_too_late_leaves_nothing() {
    on_a_node(RANGE, |lab| {
        lab.pod("a");
        let namespace = Namespace::new();
        let pid = Pid::from_raw(lab.agent.as_ref().expect("it runs").id().cast_signed());
        let patience = lab.config("1.1.0", &json!({ "timeoutSeconds": 1 }));
        kill(pid, Signal::SIGSTOP).expect("stopped");
        lab.call("ADD", "a", &namespace).with(patience).fails(11, "within 1s");
        kill(pid, Signal::SIGCONT).expect("goes on");
        // The agent may still make it, but nobody was told: it goes again.
        let status = lab.call("STATUS", "a", &namespace);
        status.succeeds();
        lab.wait_for("the interface to go", |lab| lab.traces().is_empty());
        lab.call("DEL", "a", &namespace).succeeds();
        lab.call("ADD", "a", &namespace).succeeds();
    });
}

#[test]
fn a_pod_that_the_api_tells_later() {
    on_a_node(RANGE, |lab| {
        let namespace = Namespace::new();
        let patience = lab.config("1.1.0", &json!({ "timeoutSeconds": 1 }));
        lab.call("ADD", "late", &namespace).with(patience).fails(11, "the API server has not told of this pod");
        assert_eq!(lab.traces(), [""; 0]);
        let add = lab.call("ADD", "late", &namespace);
        let waiting = std::thread::spawn(move || add.succeeds());
        lab.wait_for("the interface", |lab| !lab.traces().is_empty());
        lab.pod("late");
        waiting.join().expect("it succeeds");
        // A DEL while an ADD waits ends it.
        let other = Namespace::new();
        let add = lab.call("ADD", "never", &other);
        let waiting = std::thread::spawn(move || add.fails(11, "removed while its ADD waited"));
        let of_two = |lab: &Lab| lab.traces().iter().filter(|trace| trace.starts_with("address")).count() == 2;
        lab.wait_for("the second interface", of_two);
        lab.call("DEL", "never", &other).succeeds();
        waiting.join().expect("it fails");
    });
}

#[test]
fn namespaces_and_agents_that_are_gone() {
    on_a_node(RANGE, |lab| {
        let [a, b, c] = ["a", "b", "c"].map(|name| {
            lab.pod(name);
            let namespace = Namespace::new();
            lab.call("ADD", name, &namespace).succeeds();
            namespace
        });
        // The namespace is gone: by its old path, and without one.
        let del = lab.call("DEL", "a", &a);
        drop(a);
        del.succeeds();
        del.clone().set("CNI_NETNS", "").succeeds();
        // The agent is gone: the runtime is told to come again, and does.
        let del = lab.call("DEL", "b", &b);
        lab.kill_agent();
        del.fails(11, "is `weft agent` running");
        // What goes meanwhile is found at the start, and no Pod is needed for a DEL.
        lab.api.remove(PODS, "default", "b");
        drop(c);
        let devices = |lab: &Lab| lab.traces().iter().filter(|trace| trace.starts_with("weft")).count();
        lab.wait_for("the device to go with its namespace", |lab| devices(lab) == 1);
        lab.start_agent();
        let traces = lab.traces().join(", ");
        assert!(traces.contains("\"b\"") && !traces.contains("\"c\""), "{traces}");
        del.succeeds();
        assert_eq!(lab.traces(), [""; 0]);
        lab.call("DEL", "c", &b).succeeds();
    });
}

#[test]
fn a_sandbox_that_is_gone_while_its_namespace_is_held() {
    on_a_node(RANGE, |lab| {
        let pins = lab.path("netns");
        std::fs::create_dir(&pins).expect("a directory");
        let [held, alive] = ["held", "alive"].map(|name| {
            lab.pod(name);
            let mut namespace = Namespace::new();
            let pin = pins.join(name);
            std::fs::write(&pin, "").expect("a file");
            namespaces::sh(&format!("mount --bind {} {}", namespace.path.display(), pin.display()));
            namespace.path = pin;
            lab.call("ADD", name, &namespace).succeeds();
            namespace
        });
        lab.kill_agent();
        // A process of the pod goes on, but its runtime has let go of it.
        namespaces::sh(&format!("umount {}", held.path.display()));
        lab.start_agent();
        let traces = lab.traces().join(", ");
        assert!(traces.contains("\"held\""), "a name that is no namespace tells nothing: {traces}");
        lab.kill_agent();
        std::fs::remove_file(&held.path).expect("removed");
        lab.start_agent();
        let traces = lab.traces();
        assert_eq!(traces.len(), 2, "a device and an address are left: {traces:?}");
        assert!(traces.join(", ").contains("\"alive\""), "{traces:?}");
        lab.call("DEL", "alive", &alive).succeeds();
        assert_eq!(lab.traces(), [""; 0]);
    });
}
