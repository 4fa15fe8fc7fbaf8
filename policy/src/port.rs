//! Ports of a rule: parsed, resolved, and cut into the prefixes that an LPM table can hold.
use std::fmt;

use objects::{IntOrString, Pod, PolicyPort};

/// One entry of a rule's `ports`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PortMatch {
    /// IP protocol number.
    pub(crate) proto: u8,
    pub(crate) port: Port,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Port {
    Any,
    /// First and last.
    Range(u16, u16),
    /// The name of a container's port.
    Named(Box<str>),
}

impl PortMatch {
    /// From the API; an error says which field is wrong.
    pub(crate) fn parse(port: &PolicyPort) -> Result<PortMatch, String> {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let proto = proto_number(protocol).ok_or_else(|| format!("protocol: Unsupported value: {protocol:?}"))?;
        let number = |n: i32| match u16::try_from(n) {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("port: Invalid value: {n}: must be between 1 and 65535, inclusive")),
        };
        let port = match (&port.port, port.end_port) {
            (None, None) => Port::Any,
            (None, Some(_)) => return Err("endPort: may not be specified when `port` is not specified".into()),
            (Some(IntOrString::Name(_)), Some(_)) => {
                return Err("endPort: may not be specified when `port` is non-numeric".into());
            }
            (Some(IntOrString::Name(name)), None) => Port::Named(name.clone()),
            (Some(IntOrString::Int(first)), None) => Port::Range(number(*first)?, number(*first)?),
            (Some(IntOrString::Int(first)), Some(last)) if last < *first => {
                return Err(format!("endPort: Invalid value: {last}: must be greater than or equal to `port`"));
            }
            (Some(IntOrString::Int(first)), Some(last)) => Port::Range(number(*first)?, number(last)?),
        };
        Ok(PortMatch { proto, port })
    }
}

/// The numbers that a pod gives to a port's name, sorted. Containers may use one name for different numbers.
pub(crate) fn resolve(pod: &Pod, proto: u8, name: &str) -> Vec<u16> {
    let named = pod.ports.iter().filter(|p| *p.name == *name && proto_number(&p.protocol) == Some(proto));
    let mut numbers: Vec<u16> = named.map(|p| p.container_port).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The IP protocol number of a protocol's name in the API.
fn proto_number(name: &str) -> Option<u8> {
    match name {
        "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        _ => None,
    }
}

fn proto_name(proto: u8) -> &'static str {
    match proto {
        6 => "TCP",
        17 => "UDP",
        _ => "SCTP",
    }
}

/// The fewest prefixes that make up a range: first port and number of leading bits that count.
pub(crate) fn prefixes(first: u16, last: u16) -> Vec<(u16, u32)> {
    let (mut next, last) = (u32::from(first), u32::from(last));
    let mut prefixes = Vec::new();
    while next <= last {
        let aligned = next.trailing_zeros().min(16);
        let fits = (last - next + 1).ilog2();
        let bits = aligned.min(fits);
        prefixes.push((next as u16, 16 - bits));
        next += 1 << bits;
    }
    prefixes
}

/// `TCP`, `TCP/80`, `TCP/8000-8080`, `UDP/dns`.
impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(proto_name(self.proto))?;
        match &self.port {
            Port::Any => Ok(()),
            Port::Range(first, last) if first == last => write!(f, "/{first}"),
            Port::Range(first, last) => write!(f, "/{first}-{last}"),
            Port::Named(name) => write!(f, "/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: u16, last: u16, expected: usize) {
        let prefixes = prefixes(first, last);
        let covered: Vec<u16> =
            prefixes.iter().flat_map(|&(p, bits)| p..=p + ((1_u32 << (16 - bits)) - 1) as u16).collect();
        assert!(covered.iter().copied().eq(first..=last), "{first}-{last}: {prefixes:?}");
        assert_eq!(prefixes.len(), expected);
    }

    #[test]
    fn ranges_are_covered_exactly() {
        check(80, 80, 1);
        check(80, 81, 1);
        check(1, 65535, 16);
        check(0, 65535, 1);
        check(1024, 65535, 6);
        check(1000, 2000, 8);
        check(1, 65534, 30);
    }

    #[track_caller]
    fn fault(port: &PolicyPort, expected: &str) {
        assert!(PortMatch::parse(port).unwrap_err().starts_with(expected));
    }

    #[test]
    fn bad_ports() {
        let port = |port, end_port| PolicyPort { protocol: None, port, end_port };
        fault(&port(Some(IntOrString::Int(0)), None), "port: Invalid value: 0");
        fault(&port(Some(IntOrString::Int(70000)), None), "port: Invalid value");
        fault(&port(Some(IntOrString::Int(80)), Some(79)), "endPort: Invalid value: 79");
        fault(&port(Some(IntOrString::Name("http".into())), Some(80)), "endPort: may not");
        fault(&port(None, Some(80)), "endPort: may not");
        fault(&PolicyPort { protocol: Some("ICMP".into()), ..PolicyPort::default() }, "protocol");
    }
}
