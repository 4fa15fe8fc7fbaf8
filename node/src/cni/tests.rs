//! Plugins as scripts: what they are called with, and what becomes of their words.
use std::os::unix::fs::PermissionsExt;

use super::*;

const LOGGING: &str = r#"#!/bin/sh
{ echo "$CNI_COMMAND $CNI_IFNAME $CNI_NETNS $CNI_ARGS"; cat; echo; } >> "${0%/*}/calls"
[ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/32"},{"address":"fd00::3/128"}]}'
"#;
const FAILING: &str = "#!/bin/sh\necho '{\"code\":11,\"msg\":\"try again later\",\"details\":\"no agent\"}'; exit 1\n";

fn cni(dir: &Path, script: &str) -> Cni {
    std::fs::write(dir.join("net"), script).expect("plugin");
    std::fs::set_permissions(dir.join("net"), std::fs::Permissions::from_mode(0o755)).expect("mode");
    let list = r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"net","capabilities":{"portMappings":true}},{"type":"net","k":1}]}"#;
    std::fs::write(dir.join("10-a.conflist"), list).expect("conflist");
    std::fs::write(dir.join("20-b.conflist"), "not looked at").expect("conflist");
    Cni { conf_dir: dir.to_owned(), bin_dir: dir.to_owned() }
}

fn pod() -> PodId {
    PodId { namespace: "ns".into(), name: "p".into(), uid: "u".into() }
}

#[tokio::test]
async fn adds_in_order_and_deletes_in_reverse() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (cni, pod) = (cni(dir.path(), LOGGING), pod());
    let ports =
        [PortMapping { host_port: 80, container_port: 8080, protocol: "tcp".into(), host_ip: "10.0.0.1".into() }];
    let attachment =
        Attachment { container_id: "id", netns: Some(Path::new("/run/netns/x")), pod: &pod, port_mappings: &ports };
    let attached = cni.add(&attachment).await.expect("add");
    assert_eq!(attached.ips, ["10.1.2.3".parse::<IpAddr>().expect("ip"), "fd00::3".parse().expect("ip")]);
    cni.del(&attachment, Some(&attached.conflist), Some(&attached.result)).await.expect("del");
    let calls = std::fs::read_to_string(dir.path().join("calls")).expect("calls");
    let lines: Vec<&str> = calls.lines().collect();
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=id;K8S_POD_UID=u";
    assert_eq!(lines[0], format!("ADD eth0 /run/netns/x {args}"));
    let configs: Vec<Value> =
        lines.iter().skip(1).step_by(2).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mapping = &configs[0]["runtimeConfig"]["portMappings"][0];
    assert_eq!((&mapping["hostPort"], &mapping["hostIP"]), (&json!(80), &json!("10.0.0.1")));
    assert!(configs[0].get("prevResult").is_none() && configs[0].get("capabilities").is_none());
    assert_eq!((&configs[1]["k"], &configs[1]["prevResult"]["ips"][0]["address"]), (&json!(1), &json!("10.1.2.3/32")));
    assert_eq!(configs[2]["k"], 1, "DEL starts with the last plugin");
}

/// What the plugins were called with: lines of variables, and of configurations.
async fn collected(fields: &str, script: &str) -> (Result<(), Error>, Vec<String>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let cni = cni(dir.path(), script);
    let list = format!(
        r#"{{"name":"n",{fields},"plugins":[{{"type":"net","capabilities":{{"ips":true}}}},{{"type":"net","k":1}}]}}"#
    );
    let result = cni.gc(&serde_json::from_str(&list).expect("JSON"), &["a".to_owned(), "b".to_owned()]).await;
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap_or_default();
    (result, calls.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn gc_says_what_is_valid_to_every_plugin() {
    let (result, calls) = collected(r#""cniVersion":"1.1.0""#, LOGGING).await;
    result.expect("gc");
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(calls[0].trim_end(), "GC", "no container, no namespace, no interface");
    let config: Value = serde_json::from_str(&calls[1]).expect("JSON");
    let valid = json!([{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"}]);
    assert_eq!(config, json!({"type": "net", "cniVersion": "1.1.0", "name": "n", "cni.dev/valid-attachments": valid}));
    // One that fails hides none of those behind it, and is what is told.
    let failing = LOGGING.replace("[ \"$CNI_COMMAND\" = DEL ]", "exit 3");
    let (result, calls) = collected(r#""cniVersion":"1.1.0""#, &failing).await;
    assert!(result.expect_err("fails").to_string().starts_with("plugin type=\"net\" failed (gc):"));
    assert_eq!(calls.len(), 4, "{calls:?}");
    for no in [r#""cniVersion":"1.0.0""#, r#""cniVersion":"1.1.0","disableGC":true"#] {
        let (result, calls) = collected(no, LOGGING).await;
        assert!(result.is_ok() && calls.is_empty(), "{no}: {calls:?}");
    }
}

#[tokio::test]
async fn errors_are_the_plugins_own_words() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (cni, pod) = (cni(dir.path(), FAILING), pod());
    let attachment = Attachment { container_id: "id", netns: None, pod: &pod, port_mappings: &[] };
    let error = cni.add(&attachment).await.expect_err("fails");
    assert_eq!(error.to_string(), "plugin type=\"net\" failed (add): try again later; no agent");
}

#[test]
fn no_conflist_is_not_initialized() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for conf_dir in [dir.path().to_owned(), dir.path().join("absent")] {
        let cni = Cni { conf_dir, bin_dir: PathBuf::new() };
        assert!(matches!(cni.conflist(), Err(Error::NotInitialized { .. })));
    }
}

#[track_caller]
fn check_version(fields: &str, expected: Option<&str>, gc: bool) {
    let list: Value = serde_json::from_str(fields).expect("JSON");
    assert_eq!((version(&list), wants_gc(&list)), (expected, gc));
}

#[test]
fn the_newest_version_of_both_is_spoken() {
    check_version("{}", None, false);
    check_version(r#"{"cniVersion":"1.0.0"}"#, Some("1.0.0"), false);
    check_version(r#"{"cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0","1.0.0"]}"#, Some("1.1.0"), true);
    check_version(r#"{"cniVersion":"1.0.0","cniVersions":["1.2.0","2.0.0"]}"#, Some("1.0.0"), false);
    check_version(r#"{"cniVersions":["0.3.1","0.10.0"]}"#, Some("0.10.0"), false);
    check_version(r#"{"cniVersion":"1.1.0","disableGC":"true"}"#, Some("1.1.0"), false);
}
