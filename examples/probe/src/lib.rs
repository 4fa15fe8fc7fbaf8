//! A network probe, in the manner of Kubernetes' agnhost: a server that tells every client who answered and from
//! where it was seen, and a dialler that reports what happened. The acceptance check runs it in pods, and calls
//! [`dial::dial`] itself from namespaces of nodes.
//!
//! TCP and UDP: one line in, one JSON line out ([`Seen`]). HTTP: `/dial?proto=tcp&host=…&port=…` makes the probe dial,
//! `/sequence/start?…` and `/sequence/stop` make it send numbered traffic ([`sequence`]) to the echo of another.
pub mod dial;
pub mod ping;
pub mod sequence;
pub mod serve;

use serde::{Deserialize, Serialize};

/// What a server tells its client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Who answered.
    pub pod: String,
    /// On which node.
    pub node: String,
    /// The client's address, as the server saw it.
    pub client: String,
}

/// What came of a dial.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// An answer came.
    pub ok: bool,
    /// Why not: `refused`, `timeout`, `unreachable`, or the system's text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What the server said; a ping has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen: Option<Seen>,
}

/// How to dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// Connect, one line each way.
    Tcp,
    /// Connect only: for servers that do not speak our line.
    Connect,
    /// One datagram each way.
    Udp,
    /// An echo request.
    Icmp,
}

/// Where to dial, and how long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, clap::Args)]
pub struct Target {
    /// Protocol.
    #[arg(long, value_enum, default_value = "tcp")]
    pub proto: Proto,
    /// An IP address: the probe resolves no names.
    #[arg(long)]
    pub host: std::net::IpAddr,
    /// Ignored for a ping.
    #[arg(long, default_value_t = 8080)]
    #[serde(default)]
    pub port: u16,
    /// Of one try.
    #[arg(long, default_value_t = 1000)]
    #[serde(default = "Target::default_timeout")]
    pub timeout_ms: u64,
    /// Tries until an answer comes; a refusal ends them as well.
    #[arg(long, default_value_t = 1)]
    #[serde(default = "Target::default_tries")]
    pub tries: u32,
}

impl Target {
    const fn default_timeout() -> u64 {
        1000
    }

    const fn default_tries() -> u32 {
        1
    }
}
