//! Which fields may hold a zero value that means something.
//!
//! In the reference, most optional fields are plain Go values: zero is unset, and the encoder leaves it out. A few are
//! pointers: there `0`, `false` or `""` is an answer (`replicas: 0`). The published types do not say which, so it is written
//! down here; it matters because protobuf clients send the zero of every plain field. What is not named is kept if it is a
//! number or a boolean, and dropped if it is a string.

use super::shape::Shape;

/// Plain numbers and booleans that are left out when zero; the first part limits it to types with that ending.
const PLAIN: &[(&str, &str)] = &[
    ("", "minReadySeconds"),
    ("", "paused"),
    ("", "numberAvailable"),
    ("", "numberUnavailable"),
    ("", "updatedNumberScheduled"),
    ("", "availableReplicas"),
    ("", "readyReplicas"),
    ("", "fullyLabeledReplicas"),
    ("", "updatedReplicas"),
    ("", "unavailableReplicas"),
    ("Status", "currentReplicas"),
    ("DeploymentStatus", "replicas"),
    ("", "observedGeneration"),
    ("TokenReviewStatus", "authenticated"),
    ("", "denied"),
    ("JobStatus", "active"),
    ("JobStatus", "failed"),
    ("JobStatus", "succeeded"),
    ("", "readOnly"),
    ("AWSElasticBlockStoreVolumeSource", "partition"),
    ("GCEPersistentDiskVolumeSource", "partition"),
    ("", "chapAuthDiscovery"),
    ("", "chapAuthSession"),
    ("", "sslEnabled"),
    ("", "stdin"),
    ("", "stdinOnce"),
    ("", "tty"),
    ("", "hostPort"),
    ("", "signal"),
    ("", "sizeBytes"),
    ("Event", "count"),
    ("EventSeries", "count"),
    ("Request", "count"),
    ("", "deprecatedCount"),
    ("", "unschedulable"),
    ("", "hostIPC"),
    ("", "hostNetwork"),
    ("", "hostPID"),
    ("Probe", "failureThreshold"),
    ("Probe", "initialDelaySeconds"),
    ("Probe", "periodSeconds"),
    ("Probe", "successThreshold"),
    ("Probe", "timeoutSeconds"),
    ("", "nodePort"),
    ("", "healthCheckNodePort"),
    ("", "publishNotReadyAddresses"),
    ("ServiceBackendPort", "number"),
    ("", "globalDefault"),
    ("", "clusterScope"),
    ("CustomResourceColumnDefinition", "priority"),
    ("", "preserveUnknownFields"),
    ("", "deprecated"),
    ("", "exclusiveMaximum"),
    ("", "exclusiveMinimum"),
    ("", "nullable"),
    ("", "uniqueItems"),
    ("", "x-kubernetes-embedded-resource"),
    ("", "x-kubernetes-int-or-string"),
    ("ObjectMeta", "generation"),
    ("", "code"),
    ("", "retryAfterSeconds"),
    ("", "insecureSkipTLSVerify"),
];

/// Pointers among the fields that [`PLAIN`] names for all types.
const NOT_PLAIN: &[(&str, &str)] = &[
    ("CSIVolumeSource", "readOnly"),
    ("AzureDiskVolumeSource", "readOnly"),
    ("HorizontalPodAutoscalerStatus", "observedGeneration"),
];

/// Strings whose empty value is an answer.
const POINTER_STRINGS: &[(&str, &str)] = &[
    ("PersistentVolumeClaimSpec", "storageClassName"),
    ("EndpointPort", "name"),
    ("ObjectReference", "apiGroup"),
    ("LocalObjectReference", "apiGroup"),
    ("", "volumeAttributesClassName"),
    ("LeaseSpec", "holderIdentity"),
    ("", "ingressClassName"),
    ("", "appProtocol"),
];

/// Whether a zero in this field is kept.
pub(super) fn keeps_zero(type_name: &str, field: &str, shape: &Shape) -> bool {
    let named = |list: &[(&str, &str)]| list.iter().any(|(ty, name)| *name == field && type_name.ends_with(ty));
    match shape {
        Shape::String | Shape::Bytes => named(POINTER_STRINGS),
        Shape::Int32 | Shape::Int64 | Shape::Bool => !named(PLAIN) || named(NOT_PLAIN),
        _ => true,
    }
}
