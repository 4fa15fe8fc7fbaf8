//! kube-rs: objects as its dynamic types, and the typed calls for what only some kinds have.
use std::path::Path;

use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    authentication::v1::{TokenRequest, TokenRequestSpec},
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{
        DeleteParams, DynamicObject, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams,
        PropagationPolicy, WatchEvent, WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Driver, Outcome, text};

pub(crate) struct KubeRs {
    runtime: Runtime,
    client: Client,
    namespace: String,
}

type Answer = Result<Value, kube::Error>;

impl KubeRs {
    pub(crate) fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            // An eviction that a budget refuses (429) would be asked again and again for minutes.
            let mut config = config.expect("a config");
            config.default_retry = false;
            Client::try_from(config).expect("a client")
        });
        Self { runtime, client, namespace: namespace.to_owned() }
    }

    async fn api(&self, kind: &str) -> Result<Api<DynamicObject>, kube::Error> {
        let (version, kind) = kind.rsplit_once('/').expect("apiVersion/Kind");
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let (resource, abilities) =
            discovery::pinned_kind(&self.client, &GroupVersionKind::gvk(group, version, kind)).await?;
        Ok(match abilities.scope {
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
        })
    }

    async fn ask(&self, step: &Value) -> Answer {
        let name = text(step, "name");
        match text(step, "do") {
            "create" | "replace" => self.write(step).await,
            "get" => Ok(json(&self.api(text(step, "type")).await?.get(name).await?)),
            "patch" => self.patch(step, name).await,
            "list" => self.list(step).await,
            "watch" => self.watch(step).await,
            "delete" => {
                let policy = match text(step, "propagation") {
                    "Orphan" => Some(PropagationPolicy::Orphan),
                    "Foreground" => Some(PropagationPolicy::Foreground),
                    "Background" => Some(PropagationPolicy::Background),
                    _ => None,
                };
                let options = DeleteParams { propagation_policy: policy, ..DeleteParams::default() };
                self.api(text(step, "type")).await?.delete(name, &options).await.map(|_| json!(true))
            }
            _ => self.special(step, name).await,
        }
    }

    async fn write(&self, step: &Value) -> Answer {
        let object = &step["object"];
        let api = self.api(&format!("{}/{}", text(object, "apiVersion"), text(object, "kind"))).await?;
        let typed: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        let options = PostParams { dry_run: step["dryRun"] == true, ..PostParams::default() };
        let answer = match text(step, "do") {
            "create" => api.create(&options, &typed).await?,
            _ => api.replace(&typed.name_any(), &options, &typed).await?,
        };
        Ok(json(&answer))
    }

    async fn patch(&self, step: &Value, name: &str) -> Answer {
        let body = step["patch"].clone();
        let patch: Patch<Value> = match text(step, "by") {
            "json" => Patch::Json(serde_json::from_value(body).expect("a JSON patch")),
            "merge" => Patch::Merge(body),
            _ => Patch::Strategic(body),
        };
        let options = PatchParams { dry_run: step["dryRun"] == true, ..PatchParams::default() };
        Ok(json(&self.api(text(step, "type")).await?.patch(name, &options, &patch).await?))
    }

    async fn list(&self, step: &Value) -> Answer {
        let api = self.api(text(step, "type")).await?;
        let mut options = ListParams::default().labels(text(step, "labels")).fields(text(step, "fields"));
        options.limit = step["limit"].as_u64().map(|limit| u32::try_from(limit).expect("a small number"));
        let mut names = Vec::new();
        loop {
            let page = api.list(&options).await?;
            names.extend(page.items.iter().map(|item| json!(item.name_any())));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => options.continue_token = Some(token),
                None => return Ok(Value::Array(names)),
            }
        }
    }

    async fn watch(&self, step: &Value) -> Answer {
        let api = self.api(text(step, "type")).await?;
        let mut events = api.watch(&WatchParams::default().timeout(1), text(step, "from")).await?.boxed();
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(object) => seen.push(json!(format!("ADDED {}", object.name_any()))),
                WatchEvent::Modified(object) => seen.push(json!(format!("MODIFIED {}", object.name_any()))),
                WatchEvent::Deleted(object) => seen.push(json!(format!("DELETED {}", object.name_any()))),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(Value::Array(seen))
    }

    /// What only some kinds have.
    async fn special(&self, step: &Value, name: &str) -> Answer {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        match text(step, "do") {
            "scale" => {
                let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
                let patch = Patch::Merge(json!({"spec": {"replicas": step["replicas"]}}));
                let scale = deployments.patch_scale(name, &PatchParams::default(), &patch).await?;
                Ok(json!(scale.spec.and_then(|spec| spec.replicas)))
            }
            "logs" => pods.logs(name, &LogParams::default()).await.map(Value::from),
            "evict" => pods.evict(name, &EvictParams::default()).await.map(|_| json!(true)),
            "token" => {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
                let spec = TokenRequestSpec { expiration_seconds: Some(600), ..TokenRequestSpec::default() };
                let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
                let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
                Ok(json!(
                    answer.status.and_then(|status| status.token).is_some_and(|token| token.matches('.').count() == 2)
                ))
            }
            "may" => {
                let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
                let wanted = ResourceAttributes {
                    verb: Some(text(step, "verb").to_owned()),
                    resource: Some(text(step, "resource").to_owned()),
                    namespace: Some(self.namespace.clone()),
                    ..ResourceAttributes::default()
                };
                let spec = SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(wanted),
                    ..SelfSubjectAccessReviewSpec::default()
                };
                let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
                let answer = reviews.create(&PostParams::default(), &review).await?;
                Ok(json!(answer.status.is_some_and(|status| status.allowed)))
            }
            unknown => panic!("the scenario does {unknown}"),
        }
    }
}

fn json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

impl Driver for KubeRs {
    fn step(&mut self, step: &Value) -> Outcome {
        self.runtime.block_on(self.ask(step)).map_err(|error| match error {
            kube::Error::Api(status) => (status.reason.clone(), status.message.clone()),
            other => panic!("{step}: {other}"),
        })
    }
}
