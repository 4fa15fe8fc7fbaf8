//! A container's environment, command and arguments as the pod spec means them. Pure.
//!
//! Services first, then `envFrom`, then `env`, each over what came before; `$(NAME)` refers to what is set already.
//! ConfigMaps and Secrets are looked up beforehand; one that is missing and not optional stops the container with the
//! kubelet's message.

pub(crate) mod expand;
pub(crate) mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret, Service};

use crate::limits::{self, Allocatable};

/// The container cannot be configured; the text is what `CreateContainerConfigError` shows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// A ConfigMap or Secret that is not there.
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    /// One that is there without the key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    /// A field of the pod that cannot be referred to.
    #[error("unsupported fieldPath: {path}")]
    FieldPath { path: String },
    /// A resource that cannot be referred to.
    #[error("unsupported container resource: {resource}")]
    Resource { resource: String },
}

/// Everything outside the container that its environment may name.
#[derive(Debug, Default)]
pub(crate) struct Sources<'a> {
    /// Services that the pod is told of.
    pub(crate) services: Vec<&'a Service>,
    /// By name, in the pod's namespace.
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    /// By name, in the pod's namespace.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The pod's addresses, the node's primary family first.
    pub(crate) pod_ips: Vec<IpAddr>,
    /// The node's addresses, the primary one first.
    pub(crate) host_ips: Vec<IpAddr>,
}

/// Names of the ConfigMaps and Secrets that the container's environment needs.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// The environment, in an order that keeps each name once: at the place where it was last set.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources<'_>,
    node: Allocatable,
) -> Result<Vec<(String, String)>, Error> {
    let mut env = services::variables(&sources.services);
    for source in container.env_from.iter().flatten() {
        for (name, value) in env_from(source, sources)? {
            set(&mut env, name, value);
        }
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, var, &env, sources, node)? {
            set(&mut env, var.name.clone(), value);
        }
    }
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(known, _)| *known != name);
    env.push((name, value));
}

fn env_from(source: &EnvFromSource, sources: &Sources<'_>) -> Result<Vec<(String, String)>, Error> {
    let prefix = source.prefix.clone().unwrap_or_default();
    let named =
        |data: Vec<(String, String)>| data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)).collect();
    if let Some(reference) = &source.config_map_ref {
        return match sources.config_maps.get(&reference.name) {
            Some(map) => Ok(named(map.data.clone().unwrap_or_default().into_iter().collect())),
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(Error::NotFound { kind: "configmap", name: reference.name.clone() }),
        };
    }
    let Some(reference) = &source.secret_ref else { return Ok(Vec::new()) };
    match sources.secrets.get(&reference.name) {
        Some(secret) => {
            Ok(named(secret.data.iter().flatten().map(|(key, value)| (key.clone(), text(&value.0))).collect()))
        }
        None if reference.optional == Some(true) => Ok(Vec::new()),
        None => Err(Error::NotFound { kind: "secret", name: reference.name.clone() }),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value_of(
    pod: &Pod,
    container: &Container,
    var: &EnvVar,
    env: &[(String, String)],
    sources: &Sources<'_>,
    node: Allocatable,
) -> Result<Option<String>, Error> {
    if let Some(source) = &var.value_from {
        return from_source(pod, container, source, sources, node);
    }
    Ok(Some(expand::expand(var.value.as_deref().unwrap_or_default(), env)))
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources<'_>,
    node: Allocatable,
) -> Result<Option<String>, Error> {
    if let Some(field) = &source.field_ref {
        return pod_field(pod, &field.field_path, sources).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        let divisor = reference.divisor.as_ref().map(|divisor| divisor.0.as_str());
        let value = limits::field(container, &reference.resource, divisor, node);
        return value.map(Some).ok_or_else(|| Error::Resource { resource: reference.resource.clone() });
    }
    let (kind, name, key, optional, value) = if let Some(reference) = &source.config_map_key_ref {
        let map = sources.config_maps.get(&reference.name);
        let value = map.map(|map| map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned());
        ("configmap", &reference.name, &reference.key, reference.optional, value)
    } else if let Some(reference) = &source.secret_key_ref {
        let secret = sources.secrets.get(&reference.name);
        let value = secret
            .map(|secret| secret.data.as_ref().and_then(|data| data.get(&reference.key)).map(|value| text(&value.0)));
        ("secret", &reference.name, &reference.key, reference.optional, value)
    } else {
        return Ok(None);
    };
    match value {
        Some(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        None => Err(Error::NotFound { kind, name: name.clone() }),
        Some(None) => Err(Error::NoKey {
            kind: if kind == "configmap" { "ConfigMap" } else { "Secret" },
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

/// A field of the pod by its path, for `fieldRef` in the environment and in downward API volumes.
pub(crate) fn pod_field(pod: &Pod, path: &str, sources: &Sources<'_>) -> Result<String, Error> {
    let (metadata, spec) = (&pod.metadata, pod.spec.as_ref());
    let by_key = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    if let Some((field, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match field {
            "metadata.labels" => Ok(by_key(&metadata.labels, key)),
            "metadata.annotations" => Ok(by_key(&metadata.annotations, key)),
            _ => Err(Error::FieldPath { path: path.to_owned() }),
        };
    }
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match path {
        "metadata.name" => Ok(metadata.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(metadata.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(metadata.uid.clone().unwrap_or_default()),
        "metadata.labels" => Ok(lines(&metadata.labels)),
        "metadata.annotations" => Ok(lines(&metadata.annotations)),
        "spec.nodeName" => Ok(spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default()),
        "spec.serviceAccountName" => Ok(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()),
        "status.hostIP" => Ok(first(&sources.host_ips)),
        "status.hostIPs" => Ok(all(&sources.host_ips)),
        "status.podIP" => Ok(first(&sources.pod_ips)),
        "status.podIPs" => Ok(all(&sources.pod_ips)),
        _ => Err(Error::FieldPath { path: path.to_owned() }),
    }
}

/// `key="escaped value"` lines, as the downward API writes maps.
fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
