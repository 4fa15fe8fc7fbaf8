//! Applying manifests: create, or merge into what is there. A merge patch needs no fields' ownership, and for objects that
//! only `up` writes the result is the same as server-side apply's.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, ValidationDirective},
    core::GroupVersionKind,
    discovery::{ApiCapabilities, ApiResource, Scope, pinned_kind},
};

use super::manifest::Object;
use crate::progress::Progress;

/// A deployment to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployment {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Applies the objects, namespaces first, and returns the deployments among them.
pub(crate) async fn all(
    client: &Client,
    objects: &[Object],
    progress: &mut Progress,
) -> anyhow::Result<Vec<Deployment>> {
    let mut kinds = HashMap::new();
    let mut deployments = Vec::new();
    for object in in_order(objects) {
        let kind = object.kind();
        progress.note(&format!("{} {}", kind.kind, object.name()));
        if kind.kind == "Deployment" {
            let namespace = object.namespace().unwrap_or("default").to_owned();
            deployments.push(Deployment { namespace, name: object.name().to_owned() });
        }
        one(client, &mut kinds, object).await.map_err(|error| refusal(object, error))?;
    }
    Ok(deployments)
}

/// As written, but what others stand in or run as comes first.
fn in_order(objects: &[Object]) -> Vec<&Object> {
    let mut ordered: Vec<&Object> = objects.iter().collect();
    ordered.sort_by_key(|object| match object.kind().kind.as_str() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" => 2,
        _ => 3,
    });
    ordered
}

type Kinds = HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>;

async fn one(client: &Client, kinds: &mut Kinds, object: &Object) -> Result<(), kube::Error> {
    let kind = object.kind();
    if !kinds.contains_key(&kind) {
        kinds.insert(kind.clone(), pinned_kind(client, &kind).await?);
    }
    let (resource, capabilities) = &kinds[&kind];
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), object.namespace().unwrap_or("default"), resource),
    };
    if api.get_opt(object.name()).await?.is_some() {
        let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
        api.patch(object.name(), &params, &Patch::Merge(&object.value)).await?;
        return Ok(());
    }
    // `PostParams` has no field validation: the request is written out.
    let url = format!("{}?fieldValidation=Strict", api.resource_url());
    let body = serde_json::to_vec(&object.value).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(url).header("Content-Type", "application/json").body(body);
    client.request::<DynamicObject>(request.map_err(kube::Error::HttpError)?).await?;
    Ok(())
}

/// The server's own words, and which object of which file they are about.
fn refusal(object: &Object, error: kube::Error) -> anyhow::Error {
    let place = format!("{}: {} {}", object.file, object.kind().kind, object.name());
    match error {
        kube::Error::Api(status) => anyhow!("{}", status.message).context(place),
        other => Err::<(), _>(other).context(place).expect_err("it is one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::manifest::parse;

    #[test]
    fn namespaces_come_first() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n";
        let objects = parse("f", text).expect("parses");
        let names: Vec<_> = in_order(&objects).iter().map(|object| object.name().to_owned()).collect();
        assert_eq!(names, ["n", "s", "p"]);
    }
}
