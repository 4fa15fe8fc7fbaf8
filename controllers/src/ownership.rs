//! Adopting and releasing: which objects belong to a controller, by owner reference and by selector
//! (upstream's ControllerRefManager).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    action::Action,
    view::{LabelSelector, Meta, OwnerReference},
};

/// A controller that may own.
pub(crate) struct Owner<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) selector: &'a LabelSelector,
}

impl Owner<'_> {
    /// The reference that its objects carry.
    pub(crate) fn reference(&self) -> Value {
        json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.meta.name,
            "uid": self.meta.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }

    /// Of the objects that it controls and those that nobody does: which are its own, and what to write where the references
    /// do not say so yet. With writes to do, decide nothing else in the same round: they change resourceVersions.
    pub(crate) fn claim<'a, T>(
        &self,
        resource: &'static str,
        owned: Vec<&'a Arc<T>>,
        orphans: Vec<&'a Arc<T>>,
        meta: fn(&T) -> &Meta,
    ) -> (Vec<&'a Arc<T>>, Vec<Action>) {
        let mut writes = Vec::new();
        let mut claimed = Vec::new();
        for object in owned {
            let meta = meta(object);
            if self.selector.matches(&meta.labels) {
                claimed.push(object);
            } else if !self.meta.deleting() {
                writes.push(release(resource, meta, &self.meta.uid));
            }
        }
        if !self.meta.deleting() {
            for object in orphans {
                let meta = meta(object);
                if !meta.deleting() && self.selector.matches(&meta.labels) {
                    writes.push(self.adopt(resource, meta));
                    claimed.push(object);
                }
            }
        }
        (claimed, writes)
    }

    fn adopt(&self, resource: &'static str, meta: &Meta) -> Action {
        let mut references: Vec<Value> = meta.owner_references.iter().map(reference).collect();
        references.push(self.reference());
        Action::patch_exact(resource, meta, None, json!({ "metadata": { "ownerReferences": references } }))
    }
}

/// The references of an object without those to some owners.
pub(crate) fn without(references: &[OwnerReference], uid: impl Fn(&str) -> bool) -> Vec<Value> {
    references.iter().filter(|owner| !uid(&owner.uid)).map(reference).collect()
}

fn release(resource: &'static str, meta: &Meta, owner: &str) -> Action {
    let references = without(&meta.owner_references, |uid| uid == owner);
    Action::patch_exact(resource, meta, None, json!({ "metadata": { "ownerReferences": references } }))
}

pub(crate) fn reference(owner: &OwnerReference) -> Value {
    serde_json::to_value(owner).unwrap_or_default()
}
