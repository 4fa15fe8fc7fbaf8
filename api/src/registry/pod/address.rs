//! Addresses in a pod's status: the singular field and the first of the list are the same, one address per family.
//!
//! Upstream: the conversion of PodStatus in pkg/apis/core/v1, validatePodIPs and validateHostIPs in its validation.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{path, registry::service::family::Family, status::FieldError};

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Where the two differ, `podIP` wins: older nodes write it alone.
pub(super) fn default(pod: &mut Value) {
    let one = path::str(pod, "status.podIP").to_owned();
    let first = path::list(pod, "status.podIPs").first().map(|ip| path::str(ip, "ip").to_owned());
    match first {
        Some(first) if one.is_empty() => {
            path::entry(pod, "status").insert("podIP".to_owned(), first.into());
        }
        first if !one.is_empty() && first.as_ref() != Some(&one) => {
            path::entry(pod, "status").insert("podIPs".to_owned(), json!([{ "ip": one }]));
        }
        _ => {}
    }
}

/// What is wrong with the addresses of a status.
pub(in crate::registry) fn validate(pod: &Value) -> Vec<FieldError> {
    let mut errors = list(path::list(pod, "status.podIPs"), "status.podIPs");
    let hosts = path::list(pod, "status.hostIPs");
    if let Some(first) = hosts.first().map(|ip| path::str(ip, "ip"))
        && first != path::str(pod, "status.hostIP")
    {
        errors.push(FieldError::invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`"));
    }
    errors.extend(list(hosts, "status.hostIPs"));
    errors
}

fn list(ips: &[Value], at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<Family> = Vec::new();
    for (i, ip) in ips.iter().map(|ip| path::str(ip, "ip")).enumerate() {
        match ip.parse::<IpAddr>() {
            Ok(ip) => seen.push(Family::of(ip)),
            Err(_) => errors.push(FieldError::invalid(format!("{at}[{i}]"), ip, BAD_IP)),
        }
    }
    if ips.len() > 2 || matches!(seen[..], [a, b] if a == b) {
        errors.push(FieldError::invalid(at, ips.to_vec(), "may specify no more than one IP for each IP family"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn normal(status: &Value, expected: &Value) {
        let mut pod = json!({ "status": status });
        default(&mut pod);
        assert_eq!(&pod["status"], expected);
    }

    #[test]
    fn the_one_address_is_the_first_of_the_list() {
        let both = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
        normal(&json!({"podIP": "10.0.0.1"}), &json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}));
        normal(&json!({"podIPs": both}), &json!({"podIP": "10.0.0.1", "podIPs": both}));
        normal(&json!({"podIP": "10.0.0.1", "podIPs": both}), &json!({"podIP": "10.0.0.1", "podIPs": both}));
        normal(
            &json!({"podIP": "10.0.0.9", "podIPs": both}),
            &json!({"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}),
        );
        normal(&json!({"phase": "Pending"}), &json!({"phase": "Pending"}));
    }

    #[track_caller]
    fn refused(status: &Value, expected: &[&str]) {
        let errors: Vec<String> = validate(&json!({ "status": status })).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn one_address_per_family() {
        refused(&json!({"podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]}), &[]);
        refused(
            &json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            &[
                r#"status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: may specify no more than one IP for each IP family"#,
            ],
        );
        let bad =
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        refused(&json!({"podIPs": [{"ip": "x"}]}), &[bad]);
        refused(&json!({"hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}), &[]);
        refused(
            &json!({"hostIP": "192.0.2.1", "hostIPs": [{"ip": "2001:db8::1"}]}),
            &["status.hostIPs[0].ip: Invalid value: \"2001:db8::1\": must be equal to `hostIP`"],
        );
    }
}
