//! The one text form of policy tables: sorted, a row a line, for golden tests, `weft table dump` and bug reports.
use std::fmt;

use abi::{
    peer::ANY,
    policy::{ALLOW, BITS_ANY_PORT, BITS_ANY_PROTO, INGRESS, PolicyKey, PolicyValue},
};

use crate::{peer::CidrText, tables::Output};

/// A row of `POLICY` in one line.
pub struct Row<'a>(pub &'a PolicyKey, pub &'a PolicyValue);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row(key, value) = self;
        let direction = direction(key.direction);
        write!(f, "set {:08x} {direction} class {} ", key.set, class(key.class))?;
        match key.prefix_len {
            ..=BITS_ANY_PROTO => write!(f, "every packet")?,
            BITS_ANY_PORT => write!(f, "proto {}", key.proto)?,
            bits => {
                let port = u16::from_be(key.port);
                let last = port | u16::MAX.checked_shr(bits - BITS_ANY_PORT).unwrap_or(0);
                write!(f, "proto {} port {port}", key.proto)?;
                if last != port {
                    write!(f, "-{last}")?;
                }
            }
        }
        let verdict = if value.verdict == ALLOW { "allow" } else { "deny" };
        write!(f, " -> {verdict} precedence {} rule {:08x}", value.precedence, value.rule)
    }
}

fn direction(direction: u8) -> &'static str {
    if direction == INGRESS { "ingress" } else { "egress" }
}

fn class(class: u32) -> String {
    if class == ANY { "any".into() } else { format!("{class:08x}") }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, pod) in &self.pods {
            let isolated = ["", " ingress", " egress", " ingress egress"][usize::from(pod.isolated & 3)];
            writeln!(f, "POD {key} -> set {:08x} isolated{isolated}", pod.set)?;
        }
        for (addr, id) in &self.peers {
            writeln!(f, "PEERS {addr} -> class {id:08x}")?;
        }
        for (prefix, id) in &self.cidrs {
            writeln!(f, "CIDRS {} -> class {id:08x}", CidrText(prefix))?;
        }
        for (key, value) in &self.rows {
            writeln!(f, "POLICY {}", Row(key, value))?;
        }
        for (id, text) in &self.classes {
            writeln!(f, "class {id:08x} = {text}")?;
        }
        for (id, set) in &self.sets {
            let names = |keys: &[objects::Key]| keys.iter().map(|k| format!(" {k}")).collect::<String>();
            writeln!(f, "set {id:08x} = ingress{}; egress{}", names(&set.ingress), names(&set.egress))?;
        }
        for (id, rule) in &self.rules {
            writeln!(f, "rule {id:08x} = {} {}", rule.policy, rule.text)?;
        }
        self.issues.iter().try_for_each(|issue| writeln!(f, "issue {issue}"))
    }
}
