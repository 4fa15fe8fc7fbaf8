//! What a container runtime hands to the CNI plugin: variables, and the network configuration on standard input.
//!
//! Promises: nothing panics, whatever is printed is JSON in a version that is spoken, a failure has a code and words, and a
//! success of ADD has the agent's address at the agent's interface, behind whatever `prevResult` brought.
//!
//! An input: a line with CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME and CNI_ARGS between tabs, then standard input.
use std::ffi::OsString;

use agent_api::v1::{
    CniReply, CniResult,
    cni_result::{Interface, Ip, Route},
};
use serde_json::Value;

const VARIABLES: [&str; 5] = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const ADDRESS: &str = "10.244.1.2/32";
const DEVICE: &str = "weft0a1b2c3d";

/// One input.
pub fn run(input: &[u8]) {
    let (line, stdin) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let values: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
    let vars = |name: &str| -> Option<OsString> {
        let at = VARIABLES.iter().position(|known| *known == name)?;
        values.get(at).map(|value| std::os::unix::ffi::OsStringExt::from_vec(value.to_vec()))
    };
    let (text, done) = cni_plugin::rehearse(&vars, stdin.strip_prefix(b"\n").unwrap_or(stdin), reply());
    if done && text.is_empty() {
        assert_ne!(values.first(), Some(&&b"ADD"[..]), "ADD prints its result");
        return;
    }
    let printed: Value = serde_json::from_str(&text).expect("what is printed is JSON");
    assert!(VERSIONS.iter().any(|version| printed["cniVersion"] == *version), "{text}");
    if !done {
        assert!(printed["code"].as_u64().is_some_and(|code| code > 0) && printed["msg"] != "", "{text}");
    } else if values.first() == Some(&&b"ADD"[..]) {
        added(&printed);
    }
}

fn added(printed: &Value) {
    let list = |name: &str| printed[name].as_array().unwrap_or_else(|| panic!("{name} is no list: {printed}"));
    let own = list("ips").last().expect("the agent's address");
    let at = own["interface"].as_u64().and_then(|at| usize::try_from(at).ok()).expect("a place");
    let before = at.checked_sub(1).expect("the host's end is before the pod's");
    assert_eq!((&own["address"], &list("interfaces")[before]["name"]), (&ADDRESS.into(), &DEVICE.into()), "{printed}");
    assert!(printed["dns"].is_object() && !list("routes").is_empty(), "{printed}");
}

/// What the agent says to ADD.
fn reply() -> CniReply {
    let end = |name: &str, sandbox: &str| Interface {
        name: name.into(),
        mac: "0a:58:0a:f4:01:02".into(),
        mtu: 1450,
        sandbox: sandbox.into(),
    };
    let result = CniResult {
        interfaces: vec![end(DEVICE, ""), end("eth0", "/run/netns/x")],
        ips: vec![Ip { address: ADDRESS.into(), gateway: "169.254.1.1".into(), interface: 1 }],
        routes: vec![Route { dst: "0.0.0.0/0".into(), gw: "169.254.1.1".into() }],
    };
    CniReply { error: None, result: Some(result) }
}
