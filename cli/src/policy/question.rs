//! What people write for the ends of a flow, resolved to pods, addresses and ports.
use std::net::IpAddr;

use anyhow::{Context as _, bail};
use objects::{IntOrString, Key};
use policy::{Party, Question};
use serde_json::Value;

use super::source::Objects;

/// The flows that are meant: one, or one a backend of a service.
pub(super) fn flows(objects: &Objects, namespace: &str, from: &str, to: &str) -> anyhow::Result<Vec<Question>> {
    let sender = party(objects, namespace, from).context("--from")?;
    let (end, port, proto) = destination(to).context("--to")?;
    if let Ok(found) = party(objects, namespace, end) {
        return Ok(vec![Question { from: sender, to: found, proto, port }]);
    }
    if let Some((key, service)) = service(objects, namespace, end) {
        let backends = backends(objects, &key, service, (proto, port)).context("--to")?;
        let flow = |(pod, port)| Question { from: sender.clone(), to: Party::Pod(pod), proto, port };
        return Ok(backends.into_iter().map(flow).collect());
    }
    party(objects, namespace, end).context("--to")?;
    Ok(Vec::new())
}

/// `end:port/protocol`: an end, a port (0 for ICMP) and a protocol's number.
fn destination(text: &str) -> anyhow::Result<(&str, u16, u8)> {
    let (rest, proto) = match text.rsplit_once('/') {
        Some((rest, name)) => match name.to_ascii_lowercase().as_str() {
            "tcp" => (rest, 6),
            "udp" => (rest, 17),
            "sctp" => (rest, 132),
            "icmp" => return Ok((rest, 0, 1)),
            other if rest.contains(':') => bail!("{other:?} is no protocol: use tcp, udp, sctp or icmp"),
            _ => (text, 6),
        },
        None => (text, 6),
    };
    let (end, port) =
        rest.rsplit_once(':').with_context(|| format!("{text:?} has no port: write name:port[/protocol]"))?;
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.with_context(|| format!("{text:?}: the port must be a number from 1 to 65535"))?;
    Ok((end.trim_start_matches('[').trim_end_matches(']'), port, proto))
}

fn party(objects: &Objects, namespace: &str, text: &str) -> anyhow::Result<Party> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Party::Address(address)),
        Err(_) => Ok(Party::Pod(pod(objects, namespace, text)?)),
    }
}

/// A pod by `namespace/name`, or by a name in the namespace.
pub(super) fn pod(objects: &Objects, namespace: &str, text: &str) -> anyhow::Result<Key> {
    let key = key(namespace, text);
    if objects.pods.contains_key(&key) {
        return Ok(key);
    }
    let named = |other: &&Key| other.name == key.name;
    let elsewhere: Vec<String> = objects.pods.keys().filter(named).map(Key::to_string).collect();
    match elsewhere.as_slice() {
        [] => {
            let near = objects
                .pods
                .keys()
                .filter(|other| other.namespace == key.namespace && other.name.starts_with(&*key.name));
            let near: Vec<String> = near.take(5).map(Key::to_string).collect();
            if near.is_empty() {
                bail!("there is no pod {key}");
            }
            bail!("there is no pod {key}; there are {}", near.join(", "));
        }
        [one] => bail!("there is no pod {key}, but there is {one}: write it so, or give --namespace"),
        many => bail!("there is no pod {key}, and the name alone is ambiguous: {}", many.join(", ")),
    }
}

fn key(namespace: &str, text: &str) -> Key {
    match text.split_once('/') {
        Some((namespace, name)) => Key::new(namespace, name),
        None => Key::new(namespace, text),
    }
}

/// A service by name, or by `service/` and its name where a pod is called alike.
fn service<'a>(objects: &'a Objects, namespace: &str, text: &str) -> Option<(Key, &'a Value)> {
    let text = text.strip_prefix("service/").or_else(|| text.strip_prefix("svc/")).unwrap_or(text);
    let key = key(namespace, text);
    let service = objects.services.get(&key)?;
    Some((key, service))
}

/// Pods behind a service's port, each with its own number for it.
fn backends(
    objects: &Objects,
    key: &Key,
    service: &Value,
    (proto, port): (u8, u16),
) -> anyhow::Result<Vec<(Key, u16)>> {
    let name = match proto {
        17 => "UDP",
        132 => "SCTP",
        _ => "TCP",
    };
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_it = |p: &&Value| p["port"] == port && p["protocol"].as_str().unwrap_or("TCP") == name;
    let Some(found) = ports.iter().find(is_it) else {
        let has: Vec<String> =
            ports.iter().map(|p| format!("{}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))).collect();
        bail!("service {key} has no port {port}/{name}; it has {}", has.join(", "));
    };
    let Some(selector) = service["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else {
        bail!("service {key} has no selector: ask for its endpoints by address");
    };
    let target: IntOrString = match &found["targetPort"] {
        Value::Null => IntOrString::Int(port.into()),
        target => serde_json::from_value(target.clone()).with_context(|| format!("service {key}: targetPort"))?,
    };
    let selected = objects.pods.values().filter(|pod| {
        pod.key.namespace == key.namespace
            && !pod.terminated()
            && selector.iter().all(|(label, value)| pod.labels.get(label) == value.as_str())
    });
    let number = |pod: &objects::Pod| match &target {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::Name(wanted) => {
            let named = |p: &&objects::ContainerPort| p.name == *wanted && *p.protocol == *name;
            pod.ports.iter().find(named).map(|p| p.container_port)
        }
    };
    Ok(selected.filter_map(|pod| Some((pod.key.clone(), number(pod)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, u16, u8), &str>) {
        match (destination(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn destinations() {
        check("a/web:80", Ok(("a/web", 80, 6)));
        check("web:53/UDP", Ok(("web", 53, 17)));
        check("[fd00::5]:80/tcp", Ok(("fd00::5", 80, 6)));
        check("10.0.0.1/icmp", Ok(("10.0.0.1", 0, 1)));
        check("a/web", Err("has no port"));
        check("web:http", Err("must be a number"));
        check("web:80/quic", Err("no protocol"));
    }
}
