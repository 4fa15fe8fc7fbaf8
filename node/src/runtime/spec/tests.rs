//! The spec for containers and images that differ in one thing each.

use super::*;
use crate::runtime::Mount;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: Some(strings(&["/entry"])),
        cmd: Some(strings(&["cmd"])),
        env: Some(strings(&["PATH=/image", "A=image"])),
        working_dir: "/image".to_owned(),
        ..ImageConfig::default()
    }
}

fn spec(config: &ContainerConfig, image: &ImageConfig) -> Result<Value, Error> {
    let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".to_owned() };
    let namespaces = [("network", PathBuf::from("/run/netns/a"))];
    let input = Input {
        config,
        image,
        user: &user,
        namespaces: &namespaces,
        cgroup: "/w/pods/podu/c",
        hostname: "pod-0",
        shm: Path::new("/shm"),
        available: u64::MAX,
    };
    generate(&input).map(|spec| serde_json::to_value(spec).expect("a spec is JSON"))
}

#[track_caller]
fn check_args(command: &[&str], args: &[&str], expected: &[&str]) {
    let config = ContainerConfig { command: strings(command), args: strings(args), ..ContainerConfig::default() };
    assert_eq!(spec(&config, &image()).expect("a spec")["process"]["args"], json!(expected));
}

#[test]
fn command_and_args_against_the_image() {
    check_args(&[], &[], &["/entry", "cmd"]);
    check_args(&["/own"], &[], &["/own"]);
    check_args(&[], &["own"], &["/entry", "own"]);
    check_args(&["/own"], &["arg"], &["/own", "arg"]);
    assert!(matches!(spec(&ContainerConfig::default(), &ImageConfig::default()), Err(Error::NoCommand)));
}

#[test]
fn environment_is_merged() {
    let config = ContainerConfig {
        env: vec![("A".into(), "pod".into()), ("B".into(), "2".into())],
        ..ContainerConfig::default()
    };
    let expected = json!(["HOSTNAME=pod-0", "PATH=/image", "A=pod", "B=2", "HOME=/root"]);
    assert_eq!(spec(&config, &image()).expect("a spec")["process"]["env"], expected);
}

#[track_caller]
fn check_capabilities(security: &Security, has: &[&str], has_not: &[&str]) {
    let given = capabilities(security, u64::MAX);
    for name in has {
        assert!(given.contains(&format!("CAP_{name}")), "{name} is missing in {given:?}");
    }
    for name in has_not {
        assert!(!given.contains(&format!("CAP_{name}")), "{name} is in {given:?}");
    }
}

#[test]
fn capabilities_of_the_security_context() {
    let add = |names: &[&str]| Security { add_capabilities: strings(names), ..Security::default() };
    check_capabilities(&Security::default(), &["CHOWN", "NET_RAW"], &["MKNOD", "SYS_ADMIN", "NET_ADMIN"]);
    check_capabilities(&add(&["NET_ADMIN"]), &["NET_ADMIN", "CHOWN"], &["SYS_ADMIN"]);
    check_capabilities(&add(&["ALL"]), &["SYS_ADMIN", "MKNOD"], &[]);
    check_capabilities(
        &Security { drop_capabilities: strings(&["ALL"]), ..add(&["NET_BIND_SERVICE"]) },
        &["NET_BIND_SERVICE"],
        &["CHOWN"],
    );
    check_capabilities(
        &Security { drop_capabilities: strings(&["CAP_CHOWN"]), ..Security::default() },
        &["KILL"],
        &["CHOWN"],
    );
    check_capabilities(&Security { privileged: true, ..Security::default() }, &["SYS_ADMIN"], &[]);
    assert_eq!(
        capabilities(&Security { privileged: true, ..Security::default() }, 1),
        ["CAP_CHOWN"],
        "no more than this process has"
    );
}

#[test]
fn limits_and_namespaces() {
    let resources = Resources { cpu_shares: 512, cpu_quota: 50_000, memory_limit: 1 << 26, oom_score_adj: 1000 };
    let spec = spec(&ContainerConfig { resources, ..ContainerConfig::default() }, &image()).expect("a spec");
    let linux = &spec["linux"];
    assert_eq!(linux["resources"]["cpu"], json!({"shares": 512, "quota": 50_000, "period": 100_000}));
    assert_eq!(linux["resources"]["memory"]["limit"], 1 << 26);
    assert_eq!(linux["resources"]["devices"][0]["allow"], false);
    assert_eq!(
        linux["namespaces"],
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/a"}])
    );
    assert!(
        spec["process"].get("oomScoreAdj").is_none(),
        "its refusal must not stop the container: the helper sets it"
    );
}

#[test]
fn a_volume_takes_the_place_of_a_default_mount() {
    let mount = Mount { host_path: "/v".into(), container_path: "/dev/shm".into(), read_only: true };
    let spec = spec(&ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() }, &image()).expect("a spec");
    let shm: Vec<&Value> =
        spec["mounts"].as_array().expect("mounts").iter().filter(|mount| mount["destination"] == "/dev/shm").collect();
    assert_eq!(shm.len(), 1);
    assert_eq!(shm[0]["options"], json!(["rbind", "rprivate", "nodev", "ro"]));
}
