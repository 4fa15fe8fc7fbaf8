//! Projections of the objects that controllers read: the fields that some controller needs, and no others, so that
//! a cluster's worth of them stays small. What is passed on whole (a pod template) is kept as its JSON text.

mod budget;
mod daemonset;
mod meta;
mod network;
mod node;
mod other;
mod pod;
mod pod_affinity;
mod selector;
mod workload;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use budget::*;
pub(crate) use daemonset::*;
pub(crate) use meta::*;
pub(crate) use network::*;
pub(crate) use node::*;
pub(crate) use other::*;
pub(crate) use pod::*;
pub(crate) use pod_affinity::*;
pub(crate) use selector::*;
pub(crate) use workload::*;

use crate::resource;

/// A projection struct: every field optional in the JSON, every one visible in this crate.
macro_rules! view {
    ($($(#[$attr:meta])* $name:ident { $($(#[$field_attr:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$attr])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $name { $($(#[$field_attr])* pub(crate) $field: $type,)* }
    )*};
}
pub(crate) use view;

/// An object in the snapshot.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Pod(Arc<Pod>),
    Node(Arc<Node>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    Endpoints(Arc<Endpoints>),
    Slice(Arc<Slice>),
    ConfigMap(Arc<ConfigMap>),
    Deployment(Arc<Deployment>),
    ReplicaSet(Arc<ReplicaSet>),
    DaemonSet(Arc<DaemonSet>),
    Revision(Arc<ControllerRevision>),
    Lease(Arc<Lease>),
    Budget(Arc<Budget>),
    /// Of the kinds that no controller reads: metadata only, for the garbage and namespace controllers.
    Other(Arc<Bare>),
}

impl Object {
    /// Reads an object of a resource.
    pub(crate) fn decode(resource: &str, json: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match resource {
            resource::PODS => Self::Pod(read(json)?),
            resource::NODES => Self::Node(read(json)?),
            resource::NAMESPACES => Self::Namespace(read(json)?),
            resource::SERVICES => Self::Service(read(json)?),
            resource::ENDPOINTS => Self::Endpoints(read(json)?),
            resource::SLICES => Self::Slice(read(json)?),
            resource::CONFIG_MAPS => {
                let mut map: Arc<ConfigMap> = read(json)?;
                if map.meta.name != ROOT_CA_NAME {
                    Arc::make_mut(&mut map).data.clear();
                }
                Self::ConfigMap(map)
            }
            resource::DEPLOYMENTS => Self::Deployment(read(json)?),
            resource::REPLICA_SETS | resource::REPLICATION_CONTROLLERS => {
                let mut set: Arc<ReplicaSet> = read(json)?;
                if resource == resource::REPLICATION_CONTROLLERS {
                    Arc::make_mut(&mut set).legacy = true;
                }
                Self::ReplicaSet(set)
            }
            resource::DAEMON_SETS => Self::DaemonSet(read(json)?),
            resource::CONTROLLER_REVISIONS => Self::Revision(read(json)?),
            resource::LEASES => Self::Lease(read(json)?),
            resource::BUDGETS => Self::Budget(read(json)?),
            _ => Self::Other(read(json)?),
        })
    }

    /// Its metadata.
    pub(crate) fn meta(&self) -> &Meta {
        match self {
            Self::Pod(o) => &o.meta,
            Self::Node(o) => &o.meta,
            Self::Namespace(o) => &o.meta,
            Self::Service(o) => &o.meta,
            Self::Endpoints(o) => &o.meta,
            Self::Slice(o) => &o.meta,
            Self::ConfigMap(o) => &o.meta,
            Self::Deployment(o) => &o.meta,
            Self::ReplicaSet(o) => &o.meta,
            Self::DaemonSet(o) => &o.meta,
            Self::Revision(o) => &o.meta,
            Self::Lease(o) => &o.meta,
            Self::Budget(o) => &o.meta,
            Self::Other(o) => &o.meta,
        }
    }
}

/// Reads a projection. Go's encoder writes `null` for empty lists and times; those are taken out only if they are met,
/// because looking for them costs a full parse.
fn read<T: DeserializeOwned>(json: &[u8]) -> Result<Arc<T>, serde_json::Error> {
    match serde_json::from_slice(json) {
        Ok(object) => Ok(Arc::new(object)),
        Err(_) => {
            let mut value: Value = serde_json::from_slice(json)?;
            drop_nulls(&mut value);
            Ok(Arc::new(serde_json::from_str(&value.to_string())?))
        }
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
