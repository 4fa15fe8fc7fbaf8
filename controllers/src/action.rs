//! What a reconcile function wants done. Data only: [`runner`](crate::runner) carries it out, in order, and stops at
//! the first failure.
//!
//! The API server executes the first six through the same checks as HTTP writes; `Event`, `IfFailed` and
//! `RequeueAfter` never leave the runner.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;

use crate::view::Meta;

/// A resource as `plural` or `plural.group`: `pods`, `deployments.apps`, `endpointslices.discovery.k8s.io`.
pub type Resource = Cow<'static, str>;

/// One thing to do. Cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// POST.
    Create {
        /// Where to.
        resource: Resource,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// The whole object with `apiVersion` and `kind`.
        object: Value,
    },
    /// PUT of a whole object that carries its `metadata.resourceVersion`.
    Update {
        /// Where to.
        resource: Resource,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// The object's name.
        name: String,
        /// The whole object.
        object: Value,
    },
    /// JSON merge patch (RFC 7386). With a precondition that does not hold, the answer is 409 Conflict.
    Patch {
        /// Where to.
        resource: Resource,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// The object's name.
        name: String,
        /// `status`, `finalize` (namespaces) or none.
        subresource: Option<&'static str>,
        /// The merge patch.
        patch: Value,
        /// The object must still have this uid.
        uid: Option<String>,
        /// The object must still have this resourceVersion.
        resource_version: Option<String>,
    },
    /// DELETE. 404 counts as done.
    Delete {
        /// Where to.
        resource: Resource,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// The object's name.
        name: String,
        /// Precondition on the uid.
        uid: Option<String>,
        /// Precondition on the resourceVersion.
        resource_version: Option<String>,
        /// `gracePeriodSeconds`; none means the object's own.
        grace: Option<u64>,
        /// What happens to dependents; none means the kind's default.
        propagation: Option<Propagation>,
    },
    /// DELETE of all objects of one resource in a namespace (events, which are not watched).
    DeleteCollection {
        /// Of what.
        resource: Resource,
        /// Where.
        namespace: String,
    },
    /// POST to `pods/NAME/binding`.
    Bind {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The pod's uid, a precondition.
        uid: String,
        /// The node chosen.
        node: String,
    },
    /// An event to record; repeated ones are counted, not repeated.
    Event(Event),
    /// If an action before this one failed, this event is recorded with the error appended to its message.
    IfFailed(Event),
    /// Reconcile this key again after so long, even if nothing changes.
    RequeueAfter(Duration),
}

/// metav1.DeletionPropagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents are deleted after the object.
    Background,
    /// The object stays until its blocking dependents are gone.
    Foreground,
    /// Dependents stay, without their owner reference.
    Orphan,
}

impl Propagation {
    /// As `propagationPolicy` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Which object an event is about (corev1.ObjectReference).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Involved {
    /// `v1`, `apps/v1`, …
    pub api_version: Cow<'static, str>,
    /// `Pod`, `Deployment`, …
    pub kind: Cow<'static, str>,
    /// Empty for cluster-scoped kinds (their events live in `default`).
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// The object's resourceVersion when the event was made; not part of what makes events equal for counting.
    pub resource_version: String,
}

/// An event as kubectl prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The object it is about.
    pub involved: Involved,
    /// True: `Warning`, else `Normal`.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The message.
    pub message: String,
    /// `source.component`: `deployment-controller`, `default-scheduler`, …
    pub component: &'static str,
}

impl Event {
    /// `Normal` or `Warning`.
    pub fn type_(&self) -> &'static str {
        if self.warning { "Warning" } else { "Normal" }
    }
}

impl Action {
    /// A merge patch of an object that must still be the one that was seen (uid), at any version.
    pub(crate) fn patch(resource: &'static str, meta: &Meta, subresource: Option<&'static str>, patch: Value) -> Self {
        Self::Patch {
            resource: resource.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            subresource,
            patch,
            uid: Some(meta.uid.clone()),
            resource_version: None,
        }
    }

    /// A merge patch that depends on the very version that was seen: lists that are replaced, counts that are raised.
    pub(crate) fn patch_exact(
        resource: &'static str,
        meta: &Meta,
        subresource: Option<&'static str>,
        patch: Value,
    ) -> Self {
        let mut action = Self::patch(resource, meta, subresource, patch);
        if let Self::Patch { resource_version, .. } = &mut action {
            *resource_version = Some(meta.resource_version.clone());
        }
        action
    }

    /// A delete of the object that was seen, with its own grace.
    pub(crate) fn delete(resource: &'static str, meta: &Meta) -> Self {
        Self::Delete {
            resource: resource.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: Some(meta.uid.clone()),
            resource_version: None,
            grace: None,
            propagation: None,
        }
    }

    /// A delete that takes effect at once.
    pub(crate) fn delete_now(resource: &'static str, meta: &Meta) -> Self {
        let mut action = Self::delete(resource, meta);
        if let Self::Delete { grace, .. } = &mut action {
            *grace = Some(0);
        }
        action
    }
}

/// A `Normal` event.
pub(crate) fn normal(component: &'static str, involved: Involved, reason: &'static str, message: String) -> Event {
    Event { involved, warning: false, reason, message, component }
}

/// A `Warning` event.
pub(crate) fn warning(component: &'static str, involved: Involved, reason: &'static str, message: String) -> Event {
    Event { involved, warning: true, reason, message, component }
}
