//! The helper with real containers. This one static binary is the test, the helper (`container-helper …`) and the program
//! in the container (`payload …`): no shell or image is needed. It needs root, and says so.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("container-helper") => std::process::exit(container_helper::main(std::env::args_os().collect())),
        Some("payload") => payload(&words[2..]),
        _ => tests(),
    }
}

/// What runs in the container.
fn payload(words: &[String]) {
    match words[0].as_str() {
        "talk" => {
            println!("to stdout as pid {}", std::process::id());
            eprintln!("to stderr");
            print!("unfinished");
            std::io::stdout().flush().expect("stdout");
            std::process::exit(3);
        }
        "mknod" => {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            let make = |name: &str, minor| mknod(name, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, minor)).is_ok();
            println!("null {} kmsg {}", make("/null", 3), make("/kmsg", 11));
        }
        "sleep" => std::thread::sleep(Duration::from_secs(60)),
        "eat" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
                std::hint::black_box(&eaten);
            }
        }
        _ => std::process::exit(9),
    }
}

fn tests() {
    let cases: [(&str, fn()); 6] = [
        ("devices are filtered on the unified hierarchy too", devices_are_filtered),
        ("a container's output, exit code and end", talks_and_exits),
        ("a signal from the control fifo ends it", is_stopped_by_control),
        ("a process more in it", executes_in_it),
        ("memory above its limit is an OOM kill", is_killed_by_memory),
        ("a missing program is an error with its name", missing_program),
    ];
    for (name, case) in cases {
        print!("test {name} ... ");
        case();
        println!("ok");
    }
}

/// A bundle in a directory of its own, removed with its cgroups at the end.
struct Bundle {
    dir: tempfile::TempDir,
    cgroup: String,
}

impl Bundle {
    fn new(name: &str, words: &[&str], memory: Option<i64>) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cgroup = format!("/weft/test-{}/{name}", std::process::id());
        let root = dir.path().join("rootfs");
        for sub in ["proc", "dev", "sys"] {
            fs::create_dir_all(root.join(sub)).expect("rootfs");
        }
        fs::copy("/proc/self/exe", root.join("payload")).expect("copy of this binary");
        let mut args = vec!["/payload", "payload"];
        args.extend(words);
        if words == ["missing"] {
            args = vec!["/no-such-program"];
        }
        let capabilities: &[&str] = if words == ["mknod"] { &["CAP_MKNOD"] } else { &[] };
        let spec = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
            "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}],
                "resources": {"memory": {"limit": memory}, "devices": [{"allow": true, "access": "rwm"}]}},
        });
        fs::write(dir.path().join("config.json"), spec.to_string()).expect("config.json");
        let helper = serde_json::json!({"id": name, "state_root": dir.path().join("state"), "log_path": dir.path().join("log"),
            "oom_score_adj": 500, "cgroup_path": cgroup, "device_filter": true});
        fs::create_dir(dir.path().join("state")).expect("state directory");
        fs::write(dir.path().join("helper.json"), helper.to_string()).expect("helper.json");
        Self { dir, cgroup }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the helper and returns it with its answer.
    fn start(&self) -> (Child, serde_json::Value) {
        let mut child = Command::new("/proc/self/exe")
            .args(["container-helper", "run"])
            .arg(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("helper");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("answer");
        (child, serde_json::from_str(&line).expect("answer is JSON"))
    }

    fn exit(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path().join("exit.json")).expect("exit.json")).expect("JSON")
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path().join("log")).expect("log");
        log.lines().map(|line| line.split_once(' ').expect("time").1.to_owned()).collect()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").filter_map(Result::ok);
        hierarchies.map(|entry| entry.path().join(&self.cgroup[1..])).filter(|path| path.exists()).collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for group in self.groups() {
            let _ = fs::remove_dir(&group);
        }
        let parent = Path::new(&self.cgroup[1..]).parent().expect("two names deep").to_owned();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").filter_map(Result::ok) {
            let _ = fs::remove_dir(hierarchy.path().join(&parent));
            // Fails where another cluster or test lives, as it should.
            let _ = fs::remove_dir(hierarchy.path().join("weft"));
        }
    }
}

fn ended(mut helper: Child) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while helper.try_wait().expect("wait").is_none() {
        assert!(Instant::now() < deadline, "the helper did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn talks_and_exits() {
    let bundle = Bundle::new("talk", &["talk"], None);
    let (helper, answer) = bundle.start();
    assert!(answer["pid"].as_i64().is_some_and(|pid| pid > 1), "{answer}");
    ended(helper);
    let mut log = bundle.log();
    log.sort();
    assert_eq!(log, ["stderr F to stderr", "stdout F to stdout as pid 1", "stdout F unfinished"]);
    let exit = bundle.exit();
    assert_eq!((exit["exit_code"].as_i64(), exit["oom_killed"].as_bool()), (Some(3), Some(false)));
    assert_eq!(bundle.groups(), Vec::<PathBuf>::new(), "no cgroup is left");
}

/// The bundles allow every device by cgroup v1, so that only the program is left to say no.
fn devices_are_filtered() {
    let bundle = Bundle::new("mknod", &["mknod"], None);
    let (helper, _) = bundle.start();
    ended(helper);
    assert_eq!(bundle.log(), ["stdout F null true kmsg false"]);
}

fn is_stopped_by_control() {
    let bundle = Bundle::new("stop", &["sleep"], None);
    let (helper, _) = bundle.start();
    fs::write(bundle.path().join("control"), "9\n").expect("control");
    ended(helper);
    assert_eq!(bundle.exit()["exit_code"], 137);
}

fn executes_in_it() {
    let bundle = Bundle::new("exec", &["sleep"], None);
    let (helper, _) = bundle.start();
    let exec = Command::new("/proc/self/exe")
        .args(["container-helper", "exec"])
        .arg(bundle.path())
        .args(["--", "/payload", "payload", "talk"])
        .output()
        .expect("helper");
    let output = String::from_utf8_lossy(&exec.stdout).into_owned();
    assert_eq!(exec.status.code(), Some(3), "{output} {}", String::from_utf8_lossy(&exec.stderr));
    assert!(output.starts_with("to stdout as pid"), "{output}");
    fs::write(bundle.path().join("control"), "9\n").expect("control");
    ended(helper);
}

fn is_killed_by_memory() {
    let bundle = Bundle::new("eat", &["eat"], Some(32 << 20));
    let (helper, _) = bundle.start();
    ended(helper);
    let exit = bundle.exit();
    assert_eq!((exit["exit_code"].as_i64(), exit["oom_killed"].as_bool()), (Some(137), Some(true)));
}

fn missing_program() {
    let bundle = Bundle::new("missing", &["missing"], None);
    let (helper, answer) = bundle.start();
    ended(helper);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("/no-such-program")), "{answer}");
}
