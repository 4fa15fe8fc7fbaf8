//! Endpoints, the older form of EndpointSlices, for those who still read them. Upstream: pkg/controller/endpoint.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    endpoint_slice::reference,
    resource, service_pods,
    snapshot::Snapshot,
    view::{Address, Endpoints, Map, Object, Pod, Service, Subset, SubsetPort},
};

/// Addresses in one object at most; more are cut and the object says so.
const LIMIT: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const NAME: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) const CONTROLLER: Controller = Controller {
    name: NAME,
    watches: &[resource::SERVICES, resource::PODS, resource::ENDPOINTS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (Some(Object::Pod(_)), _) | (_, Some(Object::Pod(_))) => service_pods::services_of(snapshot, change),
        _ => vec![change.key.clone()],
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let existing = snapshot.endpoints.get(key);
    let Some(service) = snapshot.services.get(key) else {
        // Only those that this controller made: endpoints without a service may be a lease of somebody else's.
        let ours = existing.filter(|endpoints| endpoints.meta.label(MANAGED_BY) == Some(NAME));
        return ours.map(|endpoints| Action::delete(resource::ENDPOINTS, &endpoints.meta)).into_iter().collect();
    };
    if !service_pods::kept(service) {
        return Vec::new();
    }
    let (subsets, cut) = subsets(snapshot, service);
    let labels = labels(service);
    match existing {
        None => vec![create(service, &subsets, &labels, cut)],
        Some(endpoints) if right(endpoints, &subsets, &labels, cut) => Vec::new(),
        Some(endpoints) => vec![update(endpoints, &subsets, &labels, cut)],
    }
}

/// Pods by the set of numbers that the ports have in them.
fn subsets(snapshot: &Snapshot, service: &Service) -> (Vec<Subset>, bool) {
    let mut groups: BTreeMap<Vec<SubsetPort>, Subset> = BTreeMap::new();
    let mut count = 0;
    let all = service.spec.publish_not_ready_addresses;
    let pods = service_pods::pods(snapshot, service).into_iter().filter(|pod| all || !pod.meta.deleting());
    for pod in pods {
        let ports: Vec<SubsetPort> = service_pods::ports(service, pod)
            .into_iter()
            .map(|port| SubsetPort {
                name: port.name.unwrap_or_default(),
                port: port.port.unwrap_or(0),
                protocol: port.protocol.unwrap_or_default(),
                app_protocol: port.app_protocol,
            })
            .collect();
        let Some(address) = address(service, pod) else { continue };
        if ports.is_empty() && !service.spec.ports.is_empty() {
            continue;
        }
        count += 1;
        if count > LIMIT {
            break;
        }
        let subset =
            groups.entry(ports).or_insert_with_key(|ports| Subset { ports: ports.clone(), ..Subset::default() });
        if all || pod.ready() {
            subset.addresses.push(address);
        } else {
            subset.not_ready_addresses.push(address);
        }
    }
    (groups.into_values().collect(), count > LIMIT)
}

fn address(service: &Service, pod: &Pod) -> Option<Address> {
    let ips = pod.ips();
    let six = match service.spec.ip_families.first() {
        Some(family) => family == "IPv6",
        // A headless service of no family has the pod's own first one.
        None if service_pods::headless(service) => ips.first()?.contains(':'),
        None => service.spec.cluster_ip.contains(':'),
    };
    let ip = ips.into_iter().find(|ip| ip.contains(':') == six)?.to_owned();
    let node_name = Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty());
    Some(Address { ip, hostname: service_pods::hostname(service, pod), node_name, target_ref: Some(reference(pod)) })
}

fn labels(service: &Service) -> Map {
    let mut labels = service.meta.labels.clone();
    labels.remove(HEADLESS);
    if service_pods::headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), NAME.to_owned());
    labels
}

fn right(endpoints: &Endpoints, subsets: &[Subset], labels: &Map, cut: bool) -> bool {
    endpoints.subsets == subsets
        && endpoints.meta.labels == *labels
        && (endpoints.meta.annotation(OVER_CAPACITY) == Some("truncated")) == cut
}

fn create(service: &Service, subsets: &[Subset], labels: &Map, cut: bool) -> Action {
    let meta = &service.meta;
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "labels": labels },
    });
    if !subsets.is_empty() {
        object["subsets"] = json!(subsets);
    }
    if cut {
        object["metadata"]["annotations"] = json!({ OVER_CAPACITY: "truncated" });
    }
    Action::Create { resource: resource::ENDPOINTS.into(), namespace: meta.namespace.clone(), object }
}

fn update(endpoints: &Endpoints, subsets: &[Subset], labels: &Map, cut: bool) -> Action {
    let mut changed: serde_json::Map<String, Value> =
        endpoints.meta.labels.keys().map(|name| (name.clone(), Value::Null)).collect();
    changed.extend(labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())));
    let mut patch = json!({ "metadata": { "labels": changed } });
    patch["subsets"] = if subsets.is_empty() { Value::Null } else { json!(subsets) };
    patch["metadata"]["annotations"] = json!({ OVER_CAPACITY: cut.then_some("truncated") });
    Action::patch_exact(resource::ENDPOINTS, &endpoints.meta, None, patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::new();
        cluster.put(
            "services",
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9",
            "ports": [{"port": 80, "protocol": "TCP"}]}}),
        );
        for (name, ready) in [("a", "True"), ("b", "False")] {
            cluster.put("pods", json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "podIP": format!("10.0.0.{}", name.len() + usize::from(ready == "False")),
                    "conditions": [{"type": "Ready", "status": ready}]}}));
        }
        cluster
    }

    #[test]
    fn ready_and_not_ready_addresses() {
        let mut cluster = cluster();
        let key = Key::new("ns", "web");
        let actions = reconcile(&cluster.snapshot, &key, NOW);
        let [Action::Create { object, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(object["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
        assert_eq!(object["subsets"][0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
        assert_eq!(object["subsets"][0]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
        cluster.put("endpoints", object.clone());
        assert_eq!(reconcile(&cluster.snapshot, &key, NOW), []);
        cluster.remove("pods", "ns", "b");
        assert!(matches!(&reconcile(&cluster.snapshot, &key, NOW)[..], [Action::Patch { .. }]));
        cluster.remove("services", "ns", "web");
        assert_eq!(brief(&reconcile(&cluster.snapshot, &key, NOW)), ["delete endpoints web"]);
    }

    #[track_caller]
    fn family(spec: Value, expected: &str) {
        let mut cluster = Cluster::new();
        let mut whole = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        cluster.put("services", json!({"metadata": {"name": "web"}, "spec": whole}));
        cluster.put(
            "pods",
            json!({"metadata": {"name": "a", "labels": {"app": "web"}}, "status": {"phase": "Running", "podIP": "10.0.0.1",
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let actions = reconcile(&cluster.snapshot, &Key::new("ns", "web"), NOW);
        let [Action::Create { object, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(object["subsets"][0]["addresses"][0]["ip"], expected);
    }

    #[test]
    fn endpoints_are_of_the_services_first_family() {
        family(json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4", "IPv6"]}), "10.0.0.1");
        family(json!({"clusterIP": "fd00::9", "ipFamilies": ["IPv6", "IPv4"]}), "fd00::1");
        family(json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}), "fd00::1");
        family(json!({"clusterIP": "None"}), "10.0.0.1");
        family(json!({"clusterIP": "fd00::9"}), "fd00::1");
    }
}
