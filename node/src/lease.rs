//! The node's heartbeat: its Lease in `kube-node-lease`, renewed every ten seconds.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};

/// A quarter of the duration, as the kubelet has it.
const RENEW: Duration = Duration::from_secs(10);
/// Without a renewal for this long, the node counts as gone.
const DURATION_SECONDS: i32 = 40;

/// Renews the Lease for as long as the node runs; what fails is tried again sooner.
pub(crate) async fn keep(client: Client, node: String) {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    loop {
        let wait = match renew(&client, &api, &node).await {
            Ok(()) => RENEW,
            Err(error) => {
                tracing::warn!(%error, "the node's Lease could not be renewed");
                Duration::from_secs(2)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn renew(client: &Client, api: &Api<Lease>, node: &str) -> Result<(), kube::Error> {
    let spec = LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = serde_json::json!({"spec": spec});
    match api.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        other => return other.map(|_| ()),
    }
    // Owned by the Node, so that it goes with it.
    let owner = Api::<Node>::all(client.clone()).get_opt(node).await?.map(|found| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: found.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    });
    let metadata = ObjectMeta {
        name: Some(node.to_owned()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.map(|_| ())
}
