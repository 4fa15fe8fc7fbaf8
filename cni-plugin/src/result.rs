//! Results as CNI writes them ("Success"), in the form of the caller's version.
use agent_api::v1::CniResult;
use serde_json::{Map, Value, json};

use crate::VERSIONS;

/// The answer to VERSION.
pub(crate) fn versions(asked: &str) -> String {
    json!({"cniVersion": asked, "supportedVersions": VERSIONS}).to_string()
}

/// The answer to ADD: what an earlier plugin made, then ours.
pub(crate) fn added(version: &str, made: &CniResult, previous: Option<&Value>) -> String {
    let earlier = |field: &str| previous.and_then(|result| result[field].as_array()).cloned().unwrap_or_default();
    let mut interfaces = earlier("interfaces");
    let first = interfaces.len();
    interfaces.extend(made.interfaces.iter().map(|interface| {
        let mut object = json!({"name": interface.name, "mac": interface.mac});
        // The field came with 1.1.0.
        if version >= "1.1.0" && interface.mtu > 0 {
            object["mtu"] = interface.mtu.into();
        }
        if !interface.sandbox.is_empty() {
            object["sandbox"] = interface.sandbox.clone().into();
        }
        object
    }));
    let mut ips = earlier("ips");
    ips.extend(made.ips.iter().map(|ip| {
        let mut object = json!({"address": ip.address, "interface": first + ip.interface as usize});
        if !ip.gateway.is_empty() {
            object["gateway"] = ip.gateway.clone().into();
        }
        // Up to 0.4.0 each address said its family.
        if version < "1.0.0" {
            object["version"] = if ip.address.contains(':') { "6" } else { "4" }.into();
        }
        object
    }));
    let mut routes = earlier("routes");
    routes.extend(made.routes.iter().map(|route| match route.gw.as_str() {
        "" => json!({"dst": route.dst}),
        gw => json!({"dst": route.dst, "gw": gw}),
    }));
    let mut object = Map::new();
    object.insert("cniVersion".into(), version.into());
    object.insert("interfaces".into(), interfaces.into());
    object.insert("ips".into(), ips.into());
    object.insert("routes".into(), routes.into());
    object.insert("dns".into(), previous.map_or_else(|| json!({}), |result| result["dns"].clone()));
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_api::v1::cni_result::{Interface, Ip, Route};

    fn made() -> CniResult {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1450,
            sandbox: sandbox.into(),
        };
        CniResult {
            interfaces: vec![interface("weft1", ""), interface("eth0", "/run/netns/a")],
            ips: vec![Ip { address: "10.244.0.5/32".into(), gateway: "169.254.1.1".into(), interface: 1 }],
            routes: vec![Route { dst: "0.0.0.0/0".into(), gw: "169.254.1.1".into() }],
        }
    }

    #[track_caller]
    fn check(version: &str, pointer: &str, expected: &Value) {
        let previous = json!({"interfaces": [{"name": "lo"}], "dns": {"nameservers": ["1.1.1.1"]}});
        let result: Value = serde_json::from_str(&added(version, &made(), Some(&previous))).unwrap();
        assert_eq!(result.pointer(pointer).unwrap_or(&Value::Null), expected, "{result}");
    }

    #[test]
    fn results_by_version() {
        check("1.1.0", "/cniVersion", &"1.1.0".into());
        check("1.1.0", "/interfaces/0/name", &"lo".into());
        check("1.1.0", "/interfaces/2/mtu", &1450.into());
        check("1.1.0", "/ips/0/interface", &2.into());
        check("1.1.0", "/ips/0/version", &Value::Null);
        check("1.1.0", "/dns/nameservers/0", &"1.1.1.1".into());
        check("0.4.0", "/ips/0/version", &"4".into());
        check("0.4.0", "/interfaces/2/mtu", &Value::Null);
    }
}
