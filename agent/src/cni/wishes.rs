//! What a runtime or a Pod asks of its interface beyond there being one: addresses, a MAC address, host ports, rates.
//!
//! From `runtimeConfig` of the network configuration (the capabilities ips, mac, portMappings and bandwidth) and from the
//! Pod's annotations. Whatever cannot be granted is refused by name and never left out. Pure.
use std::net::IpAddr;

use agent_api::code;
use objects::{Pod, Quantity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A Pod's annotation for static addresses: one per family, comma separated.
pub const ADDRESSES: &str = "weft.net/pod-ips";
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Bits per second that upstream allows.
const RATES: std::ops::RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;
/// A bucket holds a whole segment of 64 KiB with its headers.
const LEAST_BURST: u64 = 80 << 10;

/// A port of the node that leads to the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostPort {
    /// One address of the node, or the unspecified one of a family; none: every address.
    pub host_ip: Option<IpAddr>,
    /// On the node.
    pub port: u16,
    /// In the pod.
    pub container_port: u16,
    /// IP protocol number: 6 or 17.
    pub proto: u8,
}

/// A limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Bytes per second.
    pub bytes: u64,
    /// Bytes at once.
    pub burst: u64,
}

/// All wishes about one interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wishes {
    /// Its addresses, at most one per family.
    pub ips: Vec<IpAddr>,
    /// The MAC address of the pod's end.
    pub mac: Option<[u8; 6]>,
    /// Host ports.
    pub host_ports: Vec<HostPort>,
    /// To the pod, and from it.
    pub rates: [Option<Rate>; 2],
}

/// A wish that is not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WishError {
    /// It makes no sense.
    #[error("{field}: {value} {why}")]
    Invalid {
        /// The field or annotation.
        field: String,
        /// What it says.
        value: String,
        /// What is wrong, and the remedy.
        why: &'static str,
    },
    /// Not TCP or UDP.
    #[error("runtimeConfig.portMappings: protocol {0} is not translated: use TCP or UDP, or hostNetwork")]
    Protocol(String),
    /// Of another pod, a Service or a program of the node.
    #[error("{what} is {owner}'s already: it is free when that is gone")]
    Taken {
        /// A port or an address.
        what: String,
        /// Whose.
        owner: String,
    },
}

impl WishError {
    /// CNI's code for it.
    pub fn code(&self) -> u32 {
        match self {
            WishError::Invalid { .. } => code::INVALID_CONFIG,
            WishError::Protocol(_) => code::UNSUPPORTED_FIELD,
            WishError::Taken { .. } => code::TAKEN,
        }
    }
}

fn invalid(field: &str, value: &impl ToString, why: &'static str) -> WishError {
    WishError::Invalid { field: field.to_owned(), value: value.to_string(), why }
}

impl HostPort {
    /// True if it answers at this address of the node.
    pub fn answers(&self, address: IpAddr) -> bool {
        self.host_ip.is_none_or(|ip| ip == address || (ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4()))
    }

    /// True if one packet could be for both.
    pub fn collides(&self, other: &HostPort) -> bool {
        let meets = |a: &HostPort, b: &HostPort| b.host_ip.is_none_or(|ip| a.answers(ip));
        self.port == other.port && self.proto == other.proto && (meets(self, other) || meets(other, self))
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host port {}/{}", self.port, crate::text::proto(self.proto))?;
        self.host_ip.map_or(Ok(()), |ip| write!(f, " at {ip}"))
    }
}

impl Wishes {
    /// From a network configuration.
    ///
    /// # Errors
    /// [`WishError`].
    pub fn read(config_json: &str) -> Result<Wishes, WishError> {
        let config: Value = serde_json::from_str(config_json).unwrap_or_default();
        let granted = &config["runtimeConfig"];
        Ok(Wishes {
            ips: list(granted, "ips")?.iter().map(requested).collect::<Result<Vec<_>, _>>().and_then(one_each)?,
            mac: mac(&granted["mac"])?,
            host_ports: host_ports(list(granted, "portMappings")?)?,
            rates: [rate(&granted["bandwidth"], "ingress")?, rate(&granted["bandwidth"], "egress")?],
        })
    }

    /// Rates to and from the pod: the runtime's, else those of the Pod's annotations.
    ///
    /// # Errors
    /// [`WishError::Invalid`].
    pub fn rates(&self, pod: Option<&Pod>) -> Result<[Option<Rate>; 2], WishError> {
        let annotated = |name: &'static str| pod.and_then(|pod| pod.annotations.get(name)).map(|t| (name, t));
        let of = |own: Option<Rate>, name| match (own, annotated(name)) {
            (None, Some((name, text))) => quantity(name, text).map(Some),
            (own, _) => Ok(own),
        };
        Ok([of(self.rates[0], INGRESS)?, of(self.rates[1], EGRESS)?])
    }

    /// Addresses: the runtime's, else those of the Pod's annotation.
    ///
    /// # Errors
    /// [`WishError::Invalid`].
    pub fn addresses(&self, pod: Option<&Pod>) -> Result<Vec<IpAddr>, WishError> {
        match pod.and_then(|pod| pod.annotations.get(ADDRESSES)) {
            Some(text) if self.ips.is_empty() => {
                let why = "is no list of IP addresses, comma separated: write for example 10.244.0.9";
                let parse = |part: &str| part.trim().parse().map_err(|_| invalid(ADDRESSES, &format!("{text:?}"), why));
                one_each(text.split(',').map(parse).collect::<Result<_, _>>()?)
            }
            _ => Ok(self.ips.clone()),
        }
    }
}

fn list<'a>(granted: &'a Value, name: &str) -> Result<&'a [Value], WishError> {
    match &granted[name] {
        Value::Null => Ok(&[]),
        Value::Array(list) => Ok(list),
        other => Err(invalid(&format!("runtimeConfig.{name}"), other, "is no list")),
    }
}

/// A field, whatever its letters' case: containerd 1.6 writes `HostPort` and `IngressRate`, and plugins in Go read both.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    static ABSENT: Value = Value::Null;
    let fields = value.as_object();
    let found = fields.and_then(|fields| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    found.map_or(&ABSENT, |(_, value)| value)
}

/// An address, its prefix length left off: pods have host routes.
fn requested(value: &Value) -> Result<IpAddr, WishError> {
    let text = value.as_str().unwrap_or_default();
    let bare = text.split_once('/').map_or(text, |(address, _)| address);
    bare.parse().map_err(|_| invalid("runtimeConfig.ips", value, "is no IP address"))
}

fn one_each(ips: Vec<IpAddr>) -> Result<Vec<IpAddr>, WishError> {
    let twice = [true, false].into_iter().any(|v4| ips.iter().filter(|ip| ip.is_ipv4() == v4).count() > 1);
    let all = || ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    if twice {
        Err(invalid("static addresses", &all(), "names two of one family: a pod has one of each"))
    } else {
        Ok(ips)
    }
}

fn mac(value: &Value) -> Result<Option<[u8; 6]>, WishError> {
    if value.is_null() || value == "" {
        return Ok(None);
    }
    let why =
        "is no MAC address of a device: six bytes as 0a:58:0a:f4:00:09, not zero and no group's, nor the gateway's";
    let wrong = || invalid("runtimeConfig.mac", value, why);
    let text = value.as_str().ok_or_else(wrong)?;
    let parse = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2 && !part.starts_with('+'));
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(parse).collect();
    let mac: [u8; 6] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(wrong)?;
    let bad = mac == [0; 6] || mac[0] & 1 != 0 || mac == abi::config::GATEWAY_MAC;
    if bad { Err(wrong()) } else { Ok(Some(mac)) }
}

fn host_ports(list: &[Value]) -> Result<Vec<HostPort>, WishError> {
    let mut ports: Vec<HostPort> = Vec::new();
    for value in list {
        let Some(port) = host_port(value)? else { continue };
        if ports.iter().any(|other| other.collides(&port)) {
            return Err(invalid("runtimeConfig.portMappings", &port, "is asked for twice"));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// None for a mapping without a port of the host, as runtimes tell all ports of a container.
fn host_port(value: &Value) -> Result<Option<HostPort>, WishError> {
    let path = |name: &str| format!("runtimeConfig.portMappings.{name}");
    let number = |name: &str| {
        let port = field(value, name).as_u64().and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| invalid(&path(name), field(value, name), "is no port: write 1 to 65535"))
    };
    if !value.is_object() {
        return Err(invalid("runtimeConfig.portMappings", value, "is no object with hostPort and containerPort"));
    }
    let asked = field(value, "hostPort");
    if asked.is_null() || *asked == 0 {
        return Ok(None);
    }
    let (port, container_port) = (number("hostPort")?, number("containerPort")?);
    if container_port == 0 {
        return Err(invalid(&path("containerPort"), &0, "is no port: write 1 to 65535"));
    }
    let proto = match field(value, "protocol").as_str().unwrap_or("tcp").to_ascii_lowercase().as_str() {
        "tcp" | "" => 6,
        "udp" => 17,
        other => return Err(WishError::Protocol(other.to_owned())),
    };
    let host_ip = match field(value, "hostIP").as_str().unwrap_or_default() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(&path("hostIP"), &text, "is no IP address"))?),
    };
    Ok(Some(HostPort { host_ip, port, container_port, proto }))
}

/// `ingressRate` and `ingressBurst`, in bits (and the same for egress); 0 or nothing is no limit.
fn rate(value: &Value, way: &str) -> Result<Option<Rate>, WishError> {
    let number = |name: String| match field(value, &name) {
        Value::Null => Ok(0),
        number => {
            let why = "is no whole number of bits";
            number.as_u64().ok_or_else(|| invalid(&format!("runtimeConfig.bandwidth.{name}"), number, why))
        }
    };
    let (bits, burst) = (number(format!("{way}Rate"))?, number(format!("{way}Burst"))?);
    // containerd says the largest number where nobody has said anything.
    let burst = if burst >= 0x7fff_ffff { 0 } else { burst };
    Ok((bits > 0).then(|| limit(bits, burst)))
}

fn quantity(name: &str, text: &str) -> Result<Rate, WishError> {
    let bits = text.parse::<Quantity>().ok().map(Quantity::value).filter(|bits| RATES.contains(bits));
    let why = "is no rate: write bits per second from 1k to 1P, for example 10M";
    let bits =
        bits.and_then(|bits| u64::try_from(bits).ok()).ok_or_else(|| invalid(name, &format!("{text:?}"), why))?;
    Ok(limit(bits, 0))
}

/// Without a word on it, 50 ms may come at once.
fn limit(bits: u64, burst: u64) -> Rate {
    let bytes = bits.div_ceil(8);
    let burst = if burst == 0 { bytes / 20 } else { burst / 8 };
    Rate { bytes, burst: burst.clamp(LEAST_BURST, 1 << 30) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(granted: &str, expected: Result<(), u32>) {
        let read = Wishes::read(&format!(r#"{{"runtimeConfig":{granted}}}"#));
        assert_eq!(read.map(|_| ()).map_err(|error| error.code()), expected, "{granted}");
    }

    #[test]
    fn granted_or_refused() {
        check("{}", Ok(()));
        check(r#"{"ips":["10.244.0.9/24","fd00::9"],"mac":"0a:58:0a:f4:00:09"}"#, Ok(()));
        check(r#"{"ips":["10.244.0.9","10.244.0.8"]}"#, Err(7));
        check(r#"{"ips":["x"]}"#, Err(7));
        check(r#"{"mac":"01:00:00:00:00:01"}"#, Err(7));
        check(r#"{"mac":"0a:58"}"#, Err(7));
        check(
            r#"{"portMappings":[{"containerPort":80},{"hostPort":8080,"containerPort":80,"protocol":"UDP"}]}"#,
            Ok(()),
        );
        check(r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"sctp"}]}"#, Err(2));
        check(r#"{"portMappings":[{"hostPort":70000,"containerPort":80}]}"#, Err(7));
        check(r#"{"portMappings":[{"hostPort":1,"containerPort":80,"hostIP":"x"}]}"#, Err(7));
        check(r#"{"portMappings":[{"hostPort":1,"containerPort":2},{"hostPort":1,"containerPort":3}]}"#, Err(7));
        check(r#"{"bandwidth":{"ingressRate":1000000,"ingressBurst":2147483647}}"#, Ok(()));
        check(r#"{"bandwidth":{"egressRate":"1M"}}"#, Err(7));
        // As containerd 1.6 writes them.
        check(r#"{"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"sctp","HostIP":""}]}"#, Err(2));
        check(r#"{"bandwidth":{"EgressRate":"1M"}}"#, Err(7));
    }

    #[track_caller]
    fn check_collision(a: Option<&str>, b: Option<&str>, expected: bool) {
        let port = |ip: Option<&str>| HostPort {
            host_ip: ip.map(|ip| ip.parse().expect("an address")),
            port: 80,
            container_port: 80,
            proto: 6,
        };
        assert_eq!(port(a).collides(&port(b)), expected, "{a:?} {b:?}");
        assert_eq!(port(b).collides(&port(a)), expected, "{b:?} {a:?}");
        assert!(!port(a).collides(&HostPort { proto: 17, ..port(b) }));
    }

    #[test]
    fn ports_collide_where_they_meet() {
        check_collision(None, None, true);
        check_collision(None, Some("192.0.2.1"), true);
        check_collision(Some("192.0.2.1"), Some("192.0.2.2"), false);
        check_collision(Some("192.0.2.1"), Some("0.0.0.0"), true);
        check_collision(Some("192.0.2.1"), Some("::"), false);
    }

    #[test]
    fn annotations() {
        let json = r#"{"metadata":{"name":"p","annotations":{"kubernetes.io/egress-bandwidth":"8M",
            "kubernetes.io/ingress-bandwidth":"fast","weft.net/pod-ips":"10.244.0.9, fd00::9"}}}"#;
        let pod: Pod = serde_json::from_str(json).expect("a pod");
        assert_eq!(quantity(EGRESS, "8M").expect("a rate").bytes, 1_000_000);
        let none = Wishes::default();
        assert!(none.rates(Some(&pod)).expect_err("no rate").to_string().contains(INGRESS));
        assert_eq!(none.addresses(Some(&pod)).expect("two").len(), 2);
    }
}
