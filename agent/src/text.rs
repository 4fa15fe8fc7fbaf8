//! The one sorted text form of tables: `weft table dump`, golden tests, bug reports and docs all show this.
use std::{fmt::Write, net::IpAddr};

use abi::{
    Addr,
    addr::Prefix,
    pod::{HOST, ISOLATED_EGRESS, ISOLATED_INGRESS, PEERS_NAMED, Pod, READY},
    policy::{ALLOW, BITS_ANY_PORT, BITS_ANY_PROTO, DENY, INGRESS, PolicyKey, PolicyValue},
    route::{
        ADJACENT, BY_DEVICE, CLUSTER_RANGE, LOCAL, NATIVE, NODE_ADDRESS, NOT_MASQUERADED, Node, Route, SERVICE_RANGE,
        SPLITS, TAKES_NATIVE,
    },
    service::{ALIVE, Backend, SCOPE_HOST_PORT, SCOPE_NODE_PORT, Service, ServiceKey},
};

use crate::tables::{Table, Tables};

/// One row a line, without the table's name.
pub fn table(tables: &Tables, table: Table) -> String {
    match table {
        Table::Pods => lines(&tables.pods, |addr, pod| format!("{addr} -> pod {pod}")),
        Table::Pod => lines(&tables.pod, |id, row| pod(*id, row)),
        Table::Routes => lines(&tables.routes, route),
        Table::Nodes => lines(&tables.nodes, |id, row| node(*id, row)),
        Table::Peers => lines(&tables.peers, |addr, class| format!("{addr} -> class {class:08x}")),
        Table::Cidrs => lines(&tables.cidrs, |key, class| format!("{} -> class {class:08x}", prefix(key))),
        Table::Policy => lines(&tables.policy, policy),
        Table::Services => lines(&tables.services, service),
        Table::Slots => lines(&tables.slots, |slot, backend| format!("{slot} -> backend {backend}")),
        Table::Backends => lines(&tables.backends, |id, row| backend(*id, row)),
        Table::Config => lines(&tables.config, |_, config| format!("epoch {}", config.epoch)),
    }
}

/// Every table, each under its name.
pub fn all(tables: &Tables) -> String {
    let mut text = String::new();
    for name in Table::ALL {
        let rows = table(tables, *name);
        if !rows.is_empty() {
            let _ = write!(text, "# {}\n{rows}", name.spec().name);
        }
    }
    text
}

/// A prefix as people write it.
pub fn prefix(prefix: &Prefix) -> String {
    match IpAddr::from(prefix.addr) {
        IpAddr::V4(v4) if prefix.prefix_len >= 96 => format!("{v4}/{}", prefix.prefix_len - 96),
        ip => format!("{ip}/{}", prefix.prefix_len),
    }
}

/// `aa:bb:cc:dd:ee:ff`.
pub fn mac(mac: [u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// "tcp", "udp", "icmp", else the number.
pub fn proto(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

fn lines<K, V>(rows: &std::collections::BTreeMap<K, V>, line: impl Fn(&K, &V) -> String) -> String {
    let mut lines: Vec<String> = rows.iter().map(|(key, value)| line(key, value)).collect();
    // Keys sort by memory order, which is not people's: ids stay numeric, all else goes by its text.
    if lines.iter().any(|line| !line.starts_with(|c: char| c.is_ascii_digit()) || line.contains('.')) {
        lines.sort();
    }
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn flags(words: &[(bool, &str)]) -> String {
    words.iter().filter(|(set, _)| *set).fold(String::new(), |text, (_, word)| text + " " + word)
}

fn pod(id: u32, row: &Pod) -> String {
    if row.ifindex == 0 && row.addr4 == Addr::ANY {
        return format!("{id} free, generation {}", row.generation);
    }
    let isolated = |index: usize| {
        let bits = row.isolated[index];
        let text = flags(&[
            (bits & ISOLATED_INGRESS != 0, "ingress"),
            (bits & ISOLATED_EGRESS != 0, "egress"),
            (bits & PEERS_NAMED[0] != 0, "ingress-peers-named"),
            (bits & PEERS_NAMED[1] != 0, "egress-peers-named"),
        ]);
        if text.is_empty() { " none".to_owned() } else { text }
    };
    format!(
        "{id} {} device {} mac {} generation {} sets {:08x} {:08x} isolated even{} odd{}{}",
        row.addr4,
        row.ifindex,
        mac(row.mac),
        row.generation,
        row.policy_set[0],
        row.policy_set[1],
        isolated(0),
        isolated(1),
        flags(&[(row.flags & READY != 0, "ready"), (id == HOST, "host")]),
    )
}

fn route(key: &Prefix, row: &Route) -> String {
    let words = flags(&[
        (row.flags & NODE_ADDRESS != 0, "node-address"),
        (row.flags & SERVICE_RANGE != 0, "service-range"),
        (row.flags & CLUSTER_RANGE != 0, "cluster-range"),
        (row.flags & NOT_MASQUERADED != 0, "not-masqueraded"),
    ]);
    format!("{} -> node {}{words}", prefix(key), row.node)
}

fn node(id: u32, row: &Node) -> String {
    let mut text = format!("{id} tunnel {} generation {}", row.tunnel, row.generation);
    text += &if row.mtu == 0 { String::new() } else { format!(" mtu {}", row.mtu) };
    let words = [(LOCAL, "local"), (SPLITS, "splits"), (BY_DEVICE, "by-device"), (ADJACENT, "adjacent")];
    text += &flags(&words.map(|(flag, word)| (row.flags & flag != 0, word)));
    for (family, name) in ["ipv4", "ipv6"].into_iter().enumerate() {
        if row.flags & NATIVE[family] != 0 {
            let _ = write!(text, " {name} native via {}", row.next[family]);
        }
        text += if row.flags & TAKES_NATIVE[family] != 0 { [" takes-ipv4", " takes-ipv6"][family] } else { "" };
    }
    text
}

fn policy(key: &PolicyKey, row: &PolicyValue) -> String {
    let direction = if key.direction == INGRESS { "ingress" } else { "egress" };
    let class = if key.class == abi::peer::ANY { "any".to_owned() } else { format!("{:08x}", key.class) };
    let what = match key.prefix_len {
        len if len <= BITS_ANY_PROTO => "all".to_owned(),
        len if len <= BITS_ANY_PORT => proto(key.proto),
        len => {
            let bits = len - BITS_ANY_PORT;
            let port = u16::from_be(key.port);
            let suffix = if bits < 16 { format!("/{bits}") } else { String::new() };
            format!("{} {port}{suffix}", proto(key.proto))
        }
    };
    let verdict = match row.verdict {
        ALLOW => "allow".to_owned(),
        DENY => "deny".to_owned(),
        other => format!("verdict {other}"),
    };
    format!(
        "set {:08x} {direction} class {class} {what} -> {verdict} precedence {} rule {:08x}",
        key.set, row.precedence, row.rule
    )
}

fn service(key: &ServiceKey, row: &Service) -> String {
    let addr = match key.scope {
        SCOPE_NODE_PORT => "node-port".to_owned(),
        SCOPE_HOST_PORT => format!("host-port {}", key.addr),
        _ => key.addr.to_string(),
    };
    let affinity = if row.affinity == 0 { String::new() } else { format!(" affinity {} s", row.affinity) };
    format!(
        "{addr} {} {} -> slots {} + {} service {:08x} flags {:x}{affinity}",
        proto(key.proto),
        u16::from_be(key.port),
        row.first_slot,
        row.count,
        row.service,
        row.flags,
    )
}

fn backend(id: u32, row: &Backend) -> String {
    if row.flags & ALIVE == 0 {
        return format!("{id} free, generation {}", row.generation);
    }
    format!(
        "{id} {} {} {} pod {} node {} generation {}",
        row.addr,
        proto(row.proto),
        u16::from_be(row.port),
        row.pod,
        row.node,
        row.generation
    )
}
