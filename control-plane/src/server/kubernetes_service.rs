//! The `kubernetes` Service, its Endpoints and EndpointSlice: how pods find this server. Kept by the server itself.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::registry::family::Family;
use api::schema::row;
use api::status::Status;
use serde_json::{Value, json};

use super::flags;
use crate::authn::User;
use crate::ranges::Ranges;
use crate::registry::{Preconditions, Registry, Target};

const NAME: &str = "kubernetes";
const EVERY: Duration = Duration::from_secs(10);

/// Checks again and again, since anybody may have changed them.
pub(super) async fn keep(registry: Arc<Registry>, myself: SocketAddr) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(status) = ensure(&registry, myself).await {
            tracing::warn!(%status, "the kubernetes Service was not kept");
        }
    }
}

/// Whether the Service, if it is there, has the address that these ranges give it. It cannot change: pods know it.
pub(super) fn check(registry: &Registry, ranges: &Ranges) -> Result<(), flags::Error> {
    let wanted = registry.allocators.first_address();
    let Some(service) = registry.find("services/specs", "default", NAME) else { return Ok(()) };
    let stored = api::path::str(&service, "spec.clusterIP");
    if stored.parse() == Ok(wanted) {
        return Ok(());
    }
    Err(flags::Error::OtherRange { stored: stored.to_owned(), wanted, ranges: ranges.clone() })
}

/// Makes them, or brings them back to what they must be.
pub(super) async fn ensure(registry: &Registry, myself: SocketAddr) -> Result<(), Status> {
    let labels = json!({"component": "apiserver", "provider": NAME});
    let port = json!({"name": "https", "port": myself.port(), "protocol": "TCP"});
    // One family, the primary one, as upstream: this server is reached by one address.
    let family = Family::of(myself.ip()).name();
    let service_port = json!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": myself.port()});
    let service = json!({"metadata": {"name": NAME, "labels": labels}, "spec": {
        "type": "ClusterIP", "clusterIP": registry.allocators.first_address(), "ipFamilyPolicy": "SingleStack",
        "ports": [service_port], "sessionAffinity": "None",
    }});
    one(registry, "", "v1", "services", service, &["spec.ports", "spec.clusterIP"]).await?;
    let endpoints = json!({
        "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": myself.ip()}], "ports": [port]}],
    });
    one(registry, "", "v1", "endpoints", endpoints, &["subsets"]).await?;
    let slice = json!({
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family,
        "endpoints": [{"addresses": [myself.ip()], "conditions": {"ready": true}}],
        "ports": [port],
    });
    one(registry, "discovery.k8s.io", "v1", "endpointslices", slice, &["endpoints", "ports"]).await
}

/// Creates the object, or writes the `kept` parts again where they differ.
async fn one(
    registry: &Registry,
    group: &str,
    version: &str,
    resource: &str,
    wanted: Value,
    kept: &[&str],
) -> Result<(), Status> {
    let row = row(group, version, resource).ok_or_else(Status::path_not_found)?;
    let user = User::internal("system:apiserver");
    let target = Target { user: &user, row, namespace: "default", name: NAME, subresource: "" };
    if registry.find(row.storage_key, "default", NAME).is_none() {
        return match registry.create(&target, wanted, false).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            result => result.map(|_| ()),
        };
    }
    let change = |old: &Value| {
        let mut new = old.clone();
        for path in kept {
            let value = api::path::get(&wanted, path).clone();
            let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
            api::path::entry(&mut new, parent).insert(name.to_owned(), value);
        }
        Ok(new)
    };
    registry.update(&target, &Preconditions::default(), false, change).await.map(|_| ())
}
