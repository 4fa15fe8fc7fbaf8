//! `prevResult`: what plugins before us have made. It stays in the result, in the words of the version that is asked for.
//!
//! Weft makes a pod's interface, gives it its address and judges what it sends: it is the owner of an interface or has
//! nothing to do with it. So it goes behind plugins that made other interfaces, and refuses one whose interface is there.
use agent_api::code;
use serde_json::Value;

use crate::{config::VERSIONS, failure::Failure};

/// What an entry of `interfaces`, `ips` or `routes` says only since 1.1.0.
const SINCE_1_1: [(&str, &[&str]); 2] =
    [("interfaces", &["mtu", "socketPath", "pciID"]), ("routes", &["mtu", "advmss", "priority", "table", "scope"])];

fn invalid(msg: &str, details: impl Into<String>) -> Failure {
    Failure::new(code::INVALID_CONFIG, msg, details)
}

/// It is none, or a result of a version that is spoken.
pub(crate) fn check(previous: &Value) -> Result<(), Failure> {
    if previous.is_null() {
        return Ok(());
    }
    if !previous.is_object() {
        return Err(invalid("prevResult is no object", "it is the result of the plugin before, as that printed it"));
    }
    if let Some(version) = previous["cniVersion"].as_str().filter(|version| !VERSIONS.contains(version)) {
        let details = format!("prevResult.cniVersion {version:?} is none of {}", VERSIONS.join(", "));
        return Err(Failure::new(
            code::INCOMPATIBLE_VERSION,
            "prevResult is of a version that is not supported",
            details,
        ));
    }
    for name in ["interfaces", "ips", "routes"] {
        let value = &previous[name];
        let objects = value.as_array().is_some_and(|list| list.iter().all(Value::is_object));
        if !value.is_null() && !objects {
            return Err(invalid(&format!("prevResult.{name} is no list of objects"), value.to_string()));
        }
    }
    let nameless = previous["ips"].as_array().into_iter().flatten().find(|ip| !ip["address"].is_string());
    if let Some(ip) = nameless {
        return Err(invalid("prevResult.ips is not valid", format!("{ip} has no address")));
    }
    Ok(())
}

/// Nobody before us has made the interface that ADD is to make.
pub(crate) fn leaves_room(previous: &Value, ifname: &str) -> Result<(), Failure> {
    let sandboxed =
        |one: &&Value| one["name"] == ifname && one["sandbox"].as_str().is_some_and(|path| !path.is_empty());
    match previous["interfaces"].as_array().into_iter().flatten().find(sandboxed) {
        None => Ok(()),
        Some(made) => Err(invalid(
            "weft-cni cannot be chained behind the plugin that made the interface",
            format!(
                "prevResult has {made}: weft-cni makes and owns {ifname} itself; put it first in the list of plugins"
            ),
        )),
    }
}

/// The entries of a list, as a version writes them.
pub(crate) fn list(previous: &Value, name: &str, version: &str) -> Vec<Value> {
    let mut entries = previous[name].as_array().cloned().unwrap_or_default();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        if version != "1.1.0" {
            let newer = SINCE_1_1.iter().filter(|(of, _)| *of == name).flat_map(|(_, fields)| *fields);
            newer.for_each(|field| drop(entry.remove(*field)));
        }
        if name == "ips" {
            let six = entry.get("address").and_then(Value::as_str).is_some_and(|address| address.contains(':'));
            match version.starts_with("0.") {
                true => entry.insert("version".into(), if six { "6" } else { "4" }.into()),
                false => entry.remove("version"),
            };
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: Result<(), u32>) {
        let value = serde_json::from_str(text).expect("JSON");
        assert_eq!(check(&value).map_err(|failure| failure.code), expected, "{text}");
    }

    #[test]
    fn results_taken_and_refused() {
        check_text("null", Ok(()));
        check_text("{}", Ok(()));
        check_text("[]", Err(7));
        check_text(r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"192.0.2.1/24"}]}"#, Ok(()));
        check_text(r#"{"cniVersion":"0.2.0","ip4":{"ip":"192.0.2.1/24"}}"#, Err(1));
        check_text(r#"{"ips":{}}"#, Err(7));
        check_text(r#"{"ips":[{"interface":0}]}"#, Err(7));
        check_text(r#"{"interfaces":[{"name":"a"}],"ips":[{"address":"192.0.2.1/24","interface":0}]}"#, Ok(()));
        check_text(r#"{"interfaces":["a"]}"#, Err(7));
    }

    #[test]
    fn an_interface_has_one_owner() {
        let made = |sandbox: &str| serde_json::json!({ "interfaces": [{ "name": "eth0", "sandbox": sandbox }] });
        assert_eq!(leaves_room(&made("/run/netns/x"), "eth0").map_err(|failure| failure.code), Err(7));
        assert_eq!(leaves_room(&made("/run/netns/x"), "net1"), Ok(()));
        assert_eq!(leaves_room(&made(""), "eth0"), Ok(()));
    }

    #[test]
    fn in_the_words_of_each_version() {
        let text = r#"{"interfaces":[{"name":"a","mtu":1}],"ips":[{"address":"fd00::1/64"},{"version":"4","address":"192.0.2.1/24"}]}"#;
        let previous: Value = serde_json::from_str(text).expect("JSON");
        let ips = |version| list(&previous, "ips", version);
        assert_eq!((&ips("0.4.0")[0]["version"], &ips("0.4.0")[1]["version"]), (&"6".into(), &"4".into()));
        assert_eq!(ips("1.0.0")[1]["version"], Value::Null);
        assert_eq!(list(&previous, "interfaces", "1.0.0")[0]["mtu"], Value::Null);
        assert_eq!(list(&previous, "interfaces", "1.1.0")[0]["mtu"], 1);
    }
}
