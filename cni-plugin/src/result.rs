//! The agent's answer in the words of a CNI version.
use agent_api::v1::{
    CniResult,
    cni_result::{Interface, Ip},
};
use serde_json::{Map, Value, json};

use crate::{
    config::{Config, VERSIONS},
    previous,
};

/// The answer to VERSION.
pub(crate) fn versions(version: &str) -> String {
    json!({ "cniVersion": version, "supportedVersions": VERSIONS }).to_string() + "\n"
}

/// The result of ADD: that of the plugins before, if there were any, with what the agent made behind it. Before 1.0.0 an
/// address tells its family; only 1.1.0 knows the MTU of an interface.
pub(crate) fn added(result: &CniResult, config: &Config) -> String {
    let version = config.version.as_str();
    let before = |name: &str| previous::list(&config.previous, name, version);
    let mut interfaces = before("interfaces");
    let first = interfaces.len();
    interfaces.extend(result.interfaces.iter().map(|interface| interface_json(interface, version)));
    let mut ips = before("ips");
    ips.extend(result.ips.iter().map(|ip| ip_json(ip, first, version)));
    let mut routes = before("routes");
    routes.extend(result.routes.iter().map(|route| {
        if route.gw.is_empty() { json!({ "dst": route.dst }) } else { json!({ "dst": route.dst, "gw": route.gw }) }
    }));
    let dns = [&config.dns, &config.previous["dns"]].into_iter().find(|dns| dns.is_object());
    let dns = dns.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    json!({ "cniVersion": version, "interfaces": interfaces, "ips": ips, "routes": routes, "dns": dns }).to_string()
        + "\n"
}

fn interface_json(interface: &Interface, version: &str) -> Value {
    let mut value = json!({ "name": interface.name, "mac": interface.mac });
    if !interface.sandbox.is_empty() {
        value["sandbox"] = interface.sandbox.as_str().into();
    }
    if version == "1.1.0" && interface.mtu > 0 {
        value["mtu"] = interface.mtu.into();
    }
    value
}

/// `first` is the place of our first interface in the whole list.
fn ip_json(ip: &Ip, first: usize, version: &str) -> Value {
    let mut value = json!({ "address": ip.address, "interface": first + ip.interface as usize });
    if !ip.gateway.is_empty() {
        value["gateway"] = ip.gateway.as_str().into();
    }
    if version.starts_with("0.") {
        value["version"] = if ip.address.contains(':') { "6" } else { "4" }.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use agent_api::v1::cni_result::Route;

    use super::*;

    fn printed(version: &str, fields: &str) -> Value {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.into(),
            mac: "ee:ee:ee:ee:ee:ee".into(),
            mtu: 1450,
            sandbox: sandbox.into(),
        };
        let result = CniResult {
            interfaces: vec![interface("weft1", ""), interface("eth0", "/run/netns/x")],
            ips: vec![Ip { address: "10.244.0.2/32".into(), gateway: "169.254.1.1".into(), interface: 1 }],
            routes: vec![Route { dst: "0.0.0.0/0".into(), gw: "169.254.1.1".into() }],
        };
        let text = format!(
            r#"{{"cniVersion":"{version}","name":"w","type":"t","dns":{{"nameservers":["10.96.0.10"]}}{fields}}}"#
        );
        let printed = added(&result, &Config::parse(&text).expect("valid"));
        serde_json::from_str(&printed).expect("JSON")
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "the cases below stay short")]
    fn check(version: &str, path: &str, expected: Option<Value>) {
        assert_eq!(printed(version, "").pointer(path).cloned(), expected, "{path} in {version}");
    }

    #[test]
    fn each_version_in_its_own_words() {
        for version in VERSIONS {
            check(version, "/cniVersion", Some(version.into()));
            check(version, "/ips/0/address", Some("10.244.0.2/32".into()));
            check(version, "/ips/0/interface", Some(1.into()));
            check(version, "/interfaces/1/sandbox", Some("/run/netns/x".into()));
            check(version, "/interfaces/0/sandbox", None);
            check(version, "/routes/0/gw", Some("169.254.1.1".into()));
            check(version, "/dns/nameservers/0", Some("10.96.0.10".into()));
        }
        check("0.3.1", "/ips/0/version", Some("4".into()));
        check("0.4.0", "/ips/0/version", Some("4".into()));
        check("1.0.0", "/ips/0/version", None);
        check("1.0.0", "/interfaces/0/mtu", None);
        check("1.1.0", "/interfaces/0/mtu", Some(1450.into()));
    }

    #[test]
    fn what_came_before_stays_and_counts() {
        let previous = r#","prevResult":{"interfaces":[{"name":"lo"}],"ips":[{"address":"127.0.0.1/8","interface":0}],
            "routes":[{"dst":"192.0.2.0/24"}]}"#;
        let printed = printed("1.1.0", previous);
        assert_eq!(printed["interfaces"][0]["name"], "lo");
        assert_eq!(printed["interfaces"][2]["name"], "eth0");
        assert_eq!(printed["ips"][1]["interface"], 2);
        assert_eq!(printed["routes"][0]["dst"], "192.0.2.0/24");
    }
}
