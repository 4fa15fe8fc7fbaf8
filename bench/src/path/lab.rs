//! Every path that is measured, made once: namespaces for both ends and for what is between them.
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Bare, nodes, plain, weft};
use crate::Args;

/// The name of the overlay that others are compared with.
pub(crate) const KERNEL_VXLAN: &str = "two nodes: kernel VXLAN (flannel style), no rules";

/// A path.
pub(crate) struct Path {
    /// Whose it is and what is between the ends.
    pub(crate) name: &'static str,
    /// Namespaces of the ends.
    pub(crate) client: String,
    pub(crate) server: String,
    /// Where the server listens.
    pub(crate) address: Ipv4Addr,
    /// What the client connects to, if not that.
    pub(crate) service: Option<SocketAddrV4>,
    /// What it is compared with, and whether it is that itself.
    pub(crate) bare: Option<Bare>,
    pub(crate) is_bare: bool,
    /// False where this machine lacks what the path is made of.
    pub(crate) ready: bool,
}

impl Path {
    pub(crate) fn new(name: &'static str, prefix: &str, address: Ipv4Addr) -> Path {
        let (client, server) = (format!("{prefix}-c"), format!("{prefix}-s"));
        Path { name, client, server, address, service: None, bare: None, is_bare: false, ready: true }
    }

    pub(crate) fn beside(self, bare: Bare) -> Path {
        Path { bare: Some(bare), ..self }
    }

    pub(crate) fn featureless(self) -> Path {
        Path { is_bare: true, ..self }
    }
}

/// All paths, and what keeps their programs attached.
pub(crate) struct Lab {
    pub(crate) paths: Vec<Path>,
    bare: nodes::Programs,
    weft: Vec<weft::Node>,
    notes: Vec<String>,
}

impl Lab {
    pub(crate) fn new(args: &Args) -> anyhow::Result<Lab> {
        let mut lab = Lab { paths: Vec::new(), bare: Vec::new(), weft: Vec::new(), notes: Vec::new() };
        lab.paths.push(plain::veth()?);
        lab.paths.push(plain::bridge()?.beside(Bare::Peer));
        lab.paths.push(plain::routed()?.beside(Bare::Peer));
        lab.paths.push(nodes::bare_peer(args, &mut lab.bare)?.beside(Bare::Peer).featureless());
        let local = weft::one_node(args, &mut lab.weft)?;
        lab.paths.extend(local.into_iter().map(|path| path.beside(Bare::Peer)));
        lab.paths.push(plain::two_nodes_routed()?.beside(Bare::Nic));
        let rules = plain::two_nodes_masquerade()?;
        if !rules.ready {
            lab.notes.push(
                "nft is not on this machine, so there is no path with rules (cargo xtask bench installs it)".into(),
            );
        }
        lab.paths.push(rules.beside(Bare::Nic));
        lab.paths.push(nodes::bare_nic(args, &mut lab.bare)?.beside(Bare::Nic).featureless());
        let native = weft::two_nodes_native(args, &mut lab.weft)?;
        lab.paths.extend(native.into_iter().map(|path| path.beside(Bare::Nic)));
        lab.paths.push(plain::two_nodes_vxlan()?.beside(Bare::Device));
        lab.paths.push(nodes::bare_device(args, &mut lab.bare)?.beside(Bare::Device).featureless());
        let two = weft::two_nodes(args, &mut lab.weft)?;
        lab.paths.extend(two.into_iter().map(|path| path.beside(Bare::Device)));
        Ok(lab)
    }

    /// What there is to say about the run.
    pub(crate) fn notes(&mut self) -> anyhow::Result<Vec<String>> {
        let mut notes = std::mem::take(&mut self.notes);
        let (passed, dropped) = weft::counts(&self.weft)?;
        notes.push(format!(
            "Weft with every feature on (conntrack, policy on both pods, source checks, counters): {passed} packets passed; dropped: {dropped}"
        ));
        Ok(notes)
    }
}
