//! Objects for `weft policy`: from a cluster, or from YAML files, whose lines are remembered.
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{Api, Client, api::ListParams};
use objects::{Key, Object, Store};
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What a question is asked of.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) pods: Store<objects::Pod>,
    pub(super) namespaces: Store<objects::Namespace>,
    pub(super) policies: Store<objects::NetworkPolicy>,
    pub(super) services: BTreeMap<Key, Value>,
    /// Where the policies of files were written.
    pub(super) places: BTreeMap<Key, Place>,
    /// Pods that have no address in their file, and got one for the time of the question.
    pub(super) invented: Vec<Key>,
}

/// A document in a file.
pub(super) struct Place {
    pub(super) file: String,
    /// The first line of the document in it, from 1.
    pub(super) first: usize,
    pub(super) text: Arc<str>,
}

impl Objects {
    /// As the compiler wants them.
    pub(super) fn input(&self) -> policy::Input<'_> {
        policy::Input { pods: &self.pods, namespaces: &self.namespaces, policies: &self.policies, local: &[] }
    }

    fn add(&mut self, mut value: Value, place: Option<Place>) -> anyhow::Result<()> {
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "List" || kind.ends_with("List") {
            let items = value["items"].as_array().cloned().unwrap_or_default();
            let inner = kind.strip_suffix("List").filter(|inner| !inner.is_empty());
            return items.into_iter().try_for_each(|mut item| {
                if let (None, Some(inner)) = (item["kind"].as_str(), inner) {
                    item["kind"] = inner.into();
                }
                self.add(item, None)
            });
        }
        if kind != "Namespace" && value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = "default".into();
        }
        match kind.as_str() {
            "Pod" => insert(&mut self.pods, value),
            "NetworkPolicy" => {
                let key = key(&value);
                self.places.extend(place.map(|place| (key, place)));
                insert(&mut self.policies, value)
            }
            "Namespace" => {
                named(&mut value);
                insert(&mut self.namespaces, value)
            }
            "Service" => {
                self.services.insert(key(&value), value);
                Ok(())
            }
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => self.add(template(&value), None),
            _ => Ok(()),
        }
    }

    /// What a cluster adds to what people write: namespaces that nobody declares, and addresses.
    fn complete(&mut self) -> anyhow::Result<()> {
        let of_pods = self.pods.keys().chain(self.policies.keys()).map(|key| key.namespace.clone());
        for name in of_pods.collect::<Vec<_>>() {
            if !self.namespaces.contains_key(&Key::cluster(name.clone())) {
                self.add(serde_json::json!({"kind": "Namespace", "metadata": {"name": name}}), None)?;
            }
        }
        let mut next = 0_u32;
        for pod in self.pods.values_mut().filter(|pod| pod.addresses.is_empty() && !pod.host_network) {
            // RFC 2544: addresses of nobody's network, so that blocks of real ones do not contain them.
            next += 1;
            let address = std::net::Ipv4Addr::from(0xc612_0000 + next);
            let known = objects::Pod { addresses: [address.into()].into(), ..(**pod).clone() };
            *pod = Arc::new(known);
            self.invented.push(pod.key.clone());
        }
        Ok(())
    }
}

fn key(value: &Value) -> Key {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    Key::new(text("namespace"), text("name"))
}

fn insert<T: Object>(store: &mut Store<T>, value: Value) -> anyhow::Result<()> {
    let name = format!("{} {}", value["kind"].as_str().unwrap_or_default(), key(&value));
    let object: T = serde_json::from_value(value).with_context(|| format!("{name} does not fit its kind"))?;
    if object.key().name.is_empty() {
        bail!("{name}: metadata.name is missing");
    }
    store.insert(object.key().clone(), Arc::new(object));
    Ok(())
}

/// The label that the API server gives to every namespace.
fn named(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
}

/// One pod stands for all of a workload's: policies do not tell them apart.
fn template(workload: &Value) -> Value {
    let template = &workload["spec"]["template"];
    let mut pod = serde_json::json!({"kind": "Pod", "spec": template["spec"], "metadata": template["metadata"]});
    for field in ["name", "namespace"] {
        pod["metadata"][field] = workload["metadata"][field].clone();
    }
    pod
}

/// Every document of the files; directories by the names in them.
pub(super) fn files(paths: &[PathBuf]) -> anyhow::Result<Objects> {
    let mut objects = Objects::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            documents(&mut objects, "standard input", &text)?;
            continue;
        }
        let mut found = vec![path.clone()];
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
            found = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            found.retain(|path| path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|e| end == *e)));
            found.sort();
        }
        for file in found {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            documents(&mut objects, &file.display().to_string(), &text)?;
        }
    }
    objects.complete()?;
    Ok(objects)
}

/// The documents of one text; each is parsed alone, so that its lines are known.
pub(super) fn documents(objects: &mut Objects, file: &str, text: &str) -> anyhow::Result<()> {
    let mut first = 1;
    let mut lines: Vec<&str> = Vec::new();
    for (index, line) in text.lines().chain(["---"]).enumerate() {
        if line != "---" && !line.starts_with("--- ") {
            lines.push(line);
            continue;
        }
        let text: Arc<str> = lines.join("\n").into();
        let value = serde_yaml_ng::Deserializer::from_str(&text);
        let value = Value::deserialize(value).map_err(|error| {
            let at = error.location().map_or(0, |at| at.line().saturating_sub(1));
            anyhow::anyhow!("{file}:{}: this is not YAML: {error}", first + at)
        });
        let blank = lines.iter().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if !blank {
            let place = Place { file: file.to_owned(), first, text };
            objects.add(value?, Some(place)).with_context(|| format!("{file}:{first}"))?;
        }
        lines.clear();
        first = index + 2;
    }
    Ok(())
}

/// Everything that policies speak of, of a cluster.
pub(super) fn live(kubeconfig: Option<&Path>) -> anyhow::Result<Objects> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = match kubeconfig {
            None => {
                kube::Config::infer().await.context("no kubeconfig was found; give --kubeconfig, or files with -f")?
            }
            Some(path) => {
                let read = kube::config::Kubeconfig::read_from(path).with_context(|| format!("{}", path.display()))?;
                kube::Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await?
            }
        };
        let client = Client::try_from(config)?;
        let mut objects = Objects::default();
        list::<Pod>(&client, "Pod", &mut objects).await?;
        list::<Namespace>(&client, "Namespace", &mut objects).await?;
        list::<NetworkPolicy>(&client, "NetworkPolicy", &mut objects).await?;
        list::<Service>(&client, "Service", &mut objects).await?;
        Ok(objects)
    })
}

async fn list<K>(client: &Client, kind: &str, objects: &mut Objects) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    for item in api.list(&ListParams::default()).await.with_context(|| format!("listing every {kind}"))? {
        let mut value = serde_json::to_value(item)?;
        value["kind"] = kind.into();
        objects.add(value, None)?;
    }
    Ok(())
}
