//! What a round need not work out again: the wanted services, while no Service and no EndpointSlice has changed. A pod that
//! comes or goes on a node of a cluster with thousands of services costs their compilation no more.
use std::sync::{Arc, Weak};

use objects::{EndpointSlice, Service, Store};

use crate::snapshot::Snapshot;

/// What the last round noted. Holds no store alive: a watch that changes one need not copy it for us.
#[derive(Debug, Default)]
pub struct Memo {
    services: Weak<Store<Service>>,
    slices: Weak<Store<EndpointSlice>>,
    node: Box<str>,
    wanted: proxy::Output,
}

impl Memo {
    /// The wanted services of a snapshot.
    pub(super) fn wanted(&mut self, snapshot: &Snapshot) -> &proxy::Output {
        let (services, slices) = (Arc::downgrade(&snapshot.services), Arc::downgrade(&snapshot.slices));
        let node = &snapshot.node.name;
        let same = self.services.ptr_eq(&services) && self.slices.ptr_eq(&slices) && self.node == *node;
        if !same {
            let input = proxy::Input { services: &snapshot.services, slices: &snapshot.slices, node };
            let wanted = proxy::compile(&input);
            *self = Memo { services, slices, node: node.clone(), wanted };
        }
        &self.wanted
    }
}
