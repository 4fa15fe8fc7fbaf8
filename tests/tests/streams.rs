//! exec, cp and port-forward as users type them, by kubectls of three kinds: SPDY only (1.27), WebSocket (1.33), and the
//! first with port-forward through a WebSocket (1.31).
//!
//! One test, since one cluster of one node serves all of it.
#[path = "streams/forward.rs"]
mod forward;

use std::{fs, path::Path, process::Command};

use forward::Forward;
use tests::{Cluster, Kubectl, kubectl::versions};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsUser: 1000, runAsGroup: 2000}
  containers:
    - name: main
      image: busybox:1.0
      imagePullPolicy: IfNotPresent
      workingDir: /bin
      env: [{name: COLOUR, value: blue}]
      command: [sh, -c, "trap 'exit 0' TERM; sleep 1000 & wait"]
    - name: other
      image: busybox:1.0
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "trap 'exit 0' TERM; sleep 1000 & wait"]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: busybox:1.0
          imagePullPolicy: IfNotPresent
          command: [sh, -c, "mkdir /www && seq 20000 > /www/index.html && exec httpd -f -p 127.0.0.1:8080 -h /www"]
          ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"#;

#[test]
fn exec_cp_and_port_forward() {
    let cluster = Cluster::up("streams", &["busybox-1.0"], &["--nodes", "1"]);
    let programs = versions(&[27, 31, 33]);
    let first = cluster.kubectl(&programs[0]);
    first.apply(PODS);
    first.good(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=60s"]);
    first.good(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    for version in &programs {
        let kubectl = cluster.kubectl(version);
        commands(&kubectl);
        refusals(&kubectl);
        input_arrives_whole(&kubectl);
        terminals(&kubectl);
        copies(&kubectl, cluster.dir());
        forwards(&kubectl);
    }
}

fn commands(kubectl: &Kubectl) {
    let line = "echo out; echo err >&2; id -u; id -g; pwd; echo $COLOUR";
    let output = kubectl.run(&["exec", "shell", "-c", "main", "--", "sh", "-c", line], b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n1000\n2000\n/bin\nblue\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err"), "{output:?}");
    let failed = kubectl.run(&["exec", "shell", "-c", "main", "--", "sh", "-c", "echo x; exit 3"], b"");
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    assert_eq!(failed.stdout, b"x\n");
    // The process sees the container's own processes and no others.
    let seen = kubectl.good(&["exec", "shell", "-c", "main", "--", "ls", "/proc/1/root/bin", "-d"]);
    assert_eq!(seen, "/proc/1/root/bin\n");
}

#[track_caller]
fn refused(kubectl: &Kubectl, words: &[&str], text: &str) {
    let output = kubectl.run(words, b"");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains(text), "{words:?}: {output:?}");
}

fn refusals(kubectl: &Kubectl) {
    refused(kubectl, &["exec", "shell", "-c", "nope", "--", "ls"], "container nope is not valid for pod shell");
    refused(kubectl, &["exec", "absent", "--", "ls"], "pods \"absent\" not found");
    refused(kubectl, &["exec", "shell", "-c", "main", "--", "/no/such"], "error executing command in container");
    refused(kubectl, &["--as=nobody", "exec", "shell", "-c", "main", "--", "ls"], "is forbidden");
}

fn input_arrives_whole(kubectl: &Kubectl) {
    let mut input: Vec<u8> = (0..8_u32 << 18).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    input.push(7);
    let output = kubectl.run(&["exec", "-i", "shell", "-c", "main", "--", "cat"], &input);
    assert!(output.status.success() && output.stdout == input, "{} bytes came back", output.stdout.len());
}

fn terminals(kubectl: &Kubectl) {
    let line =
        kubectl.line(&["exec", "-it", "shell", "-c", "main", "--", "sh", "-c", "'tty; stty size; echo $TERM; exit 4'"]);
    let script = Command::new("script").args(["-qec", &format!("stty rows 33 cols 99; {line}"), "/dev/null"]).output();
    let output = script.expect("script, of bsdutils, starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/dev/pts/0") && text.contains("xterm"), "{text}");
    assert_eq!(output.status.code(), Some(4), "{text}");
}

fn copies(kubectl: &Kubectl, dir: &Path) {
    let (there, back) = (dir.join("there"), dir.join("back"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(&there, &bytes).expect("written");
    let _ = fs::remove_file(&back);
    kubectl.good(&["cp", &there.display().to_string(), "shell:/dev/shm/copy", "-c", "main"]);
    kubectl.good(&["cp", "shell:/dev/shm/copy", &back.display().to_string(), "-c", "main"]);
    assert!(fs::read(&back).expect("copied back") == bytes, "the copy differs");
}

fn forwards(kubectl: &Kubectl) {
    let page: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    for (target, port) in [("deployment/web", ":8080"), ("service/web", ":80")] {
        let forward = Forward::start(kubectl, target, port);
        let getters: Vec<_> = (0..20).map(|_| forward::get(forward.port)).collect();
        for getter in getters {
            let body = getter.join().expect("no panic");
            assert!(body == page, "{target}: {} bytes of {}", body.len(), page.len());
        }
    }
    let closed = Forward::start(kubectl, "deployment/web", ":81");
    assert_eq!(forward::get(closed.port).join().expect("no panic"), "");
    let words = closed.errors();
    assert!(words.contains("error forwarding port 81 to pod web-") && words.contains("onnection refused"), "{words}");
}
