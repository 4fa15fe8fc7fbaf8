//! Volumes, claims, and the classes and drivers behind them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, cell};
use crate::path;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "PersistentVolume" => (
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|*VolumeMode",
            volume,
        ),
        "PersistentVolumeClaim" => {
            ("Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|*VolumeMode", claim)
        }
        "StorageClass" => {
            ("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion:boolean|Age", storage_class)
        }
        "VolumeAttachment" => ("Name|Attacher|PV|Node|Attached:boolean|Age", attachment),
        "VolumeAttributesClass" => ("Name|DriverName|Age", |object, now| {
            vec![cell::name(object), json!(path::str(object, "driverName")), cell::age(object, now)]
        }),
        "CSINode" => ("Name|Drivers:integer|Age", |object, now| {
            vec![cell::name(object), json!(path::list(object, "spec.drivers").len()), cell::age(object, now)]
        }),
        "CSIDriver" => (
            "Name|AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|RequiresRepublish:boolean|Modes|Age",
            csi_driver,
        ),
        _ => return None,
    };
    Some(View { columns, cells })
}

/// `RWO,ROX` and so on.
fn access_modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",")
}

fn phase(object: &Value) -> &str {
    if path::get(object, "metadata.deletionTimestamp").is_null() {
        path::str(object, "status.phase")
    } else {
        "Terminating"
    }
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = path::get(object, "spec");
    let claim = match path::get(spec, "claimRef") {
        Value::Null => String::new(),
        claim => format!("{}/{}", path::str(claim, "namespace"), path::str(claim, "name")),
    };
    vec![
        cell::name(object),
        json!(path::str(spec, "capacity.storage")),
        json!(access_modes(path::list(spec, "accessModes"))),
        json!(path::str(spec, "persistentVolumeReclaimPolicy")),
        json!(phase(object)),
        json!(claim),
        json!(path::str(spec, "storageClassName")),
        json!(cell::text(spec, "volumeAttributesClassName", cell::UNSET)),
        json!(path::str(object, "status.reason")),
        cell::age(object, now),
        json!(cell::text(spec, "volumeMode", cell::UNSET)),
    ]
}

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = path::get(object, "spec");
    let bound = !path::str(spec, "volumeName").is_empty();
    let (modes, capacity) = if bound {
        (access_modes(path::list(object, "status.accessModes")), path::str(object, "status.capacity.storage"))
    } else {
        (String::new(), "")
    };
    vec![
        cell::name(object),
        json!(phase(object)),
        json!(path::str(spec, "volumeName")),
        json!(capacity),
        json!(modes),
        json!(path::str(spec, "storageClassName")),
        json!(cell::text(spec, "volumeAttributesClassName", cell::UNSET)),
        cell::age(object, now),
        json!(cell::text(spec, "volumeMode", cell::UNSET)),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let default = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let annotations = path::map(object, "metadata.annotations");
    let is_default = default.iter().any(|key| annotations.and_then(|a| a.get(*key)) == Some(&json!("true")));
    let name = path::str(object, "metadata.name");
    vec![
        json!(if is_default { format!("{name} (default)") } else { name.to_owned() }),
        json!(path::str(object, "provisioner")),
        json!(cell::text(object, "reclaimPolicy", "Delete")),
        json!(cell::text(object, "volumeBindingMode", "Immediate")),
        json!(path::bool(object, "allowVolumeExpansion")),
        cell::age(object, now),
    ]
}

fn attachment(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cell::name(object),
        json!(path::str(object, "spec.attacher")),
        json!(path::str(object, "spec.source.persistentVolumeName")),
        json!(path::str(object, "spec.nodeName")),
        json!(path::bool(object, "status.attached")),
        cell::age(object, now),
    ]
}

fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = path::get(object, "spec");
    let tokens: Vec<&str> = path::list(spec, "tokenRequests").iter().map(|t| path::str(t, "audience")).collect();
    let modes: Vec<&str> = path::list(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let or_none =
        |list: &[&str], nothing: &str| json!(if list.is_empty() { nothing.to_owned() } else { list.join(",") });
    vec![
        cell::name(object),
        json!(path::bool(spec, "attachRequired")),
        json!(path::bool(spec, "podInfoOnMount")),
        json!(path::bool(spec, "storageCapacity")),
        or_none(&tokens, cell::UNSET),
        json!(path::bool(spec, "requiresRepublish")),
        or_none(&modes, cell::NONE),
        cell::age(object, now),
    ]
}
