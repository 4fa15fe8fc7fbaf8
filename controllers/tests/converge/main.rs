//! The runner with all controllers over an in-memory API that refuses every tenth write: clusters still get where they should.
//!
//! A stand-in kubelet makes bound pods run and ends those that are deleted. No sleeps: every step waits for a condition.

mod fake;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use controllers::{
    controller::{Concurrency, Controller},
    runner,
    settings::Settings,
};
use fake::Fake;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

struct Cluster {
    api: Arc<Fake>,
    stop: Arc<AtomicBool>,
    runner: Option<std::thread::JoinHandle<()>>,
    kubelet: Option<std::thread::JoinHandle<()>>,
}

impl Cluster {
    fn start() -> Self {
        let api = Arc::new(Fake::new());
        let stop = Arc::new(AtomicBool::new(false));
        for name in ["n1", "n2", "n3"] {
            api.create("nodes", "", json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "conditions": [{"type": "Ready", "status": "True"}]}}));
        }
        api.create(
            "namespaces",
            "",
            json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        );
        let settings = Settings {
            cluster_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
            root_ca_pem: "PEM".to_owned(),
            ..Settings::default()
        };
        let runner = runner::run(Arc::clone(&api) as Arc<dyn runner::Api>, settings, Arc::clone(&stop));
        let kubelet = fake::kubelet(Arc::clone(&api), Arc::clone(&stop));
        Self { api, stop, runner: Some(runner), kubelet: Some(kubelet) }
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&Fake) -> bool) {
        let began = Instant::now();
        while !condition(&self.api) {
            assert!(began.elapsed() < DEADLINE, "{what}: {}", self.api.summary());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn pods(&self, image: &str) -> usize {
        self.api
            .all("pods")
            .iter()
            .filter(|pod| fake::runs(pod) && pod["spec"]["containers"][0]["image"] == image)
            .count()
    }

    fn deploy(&self, replicas: i64, strategy: &Value) {
        self.api.create(
            "deployments.apps",
            "ns",
            json!({"metadata": {"name": "web"}, "spec": {
            "replicas": replicas, "strategy": strategy, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]}}}}),
        );
    }

    fn change(&self, patch: &Value) {
        self.api.change("deployments.apps", "ns", "web", patch);
    }

    fn condition(&self, type_: &str) -> String {
        let deployment = self.api.get("deployments.apps", "ns", "web").unwrap_or_default();
        let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|c| c["type"] == type_);
        found.map(|c| c["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in [self.runner.take(), self.kubelet.take()].into_iter().flatten() {
            thread.join().expect("threads stop cleanly");
        }
    }
}

fn rolling() -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
}

#[test]
fn a_new_namespace_and_new_nodes_get_what_they_need() {
    let cluster = Cluster::start();
    cluster.wait("account, CA and CIDRs", |api| {
        let mut cidrs: Vec<String> = api
            .all("nodes")
            .iter()
            .filter_map(|node| node["spec"]["podCIDR"].as_str().map(ToOwned::to_owned))
            .collect();
        cidrs.sort();
        api.get("serviceaccounts", "ns", "default").is_some()
            && api.get("configmaps", "ns", "kube-root-ca.crt").is_some_and(|map| map["data"]["ca.crt"] == "PEM")
            && cidrs == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
    });
}

#[test]
fn a_deployment_rolls_out_scales_and_rolls_on() {
    let cluster = Cluster::start();
    cluster.api.create("services", "ns", json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
        "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}}));
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| {
        cluster.pods("v1") == 3 && cluster.condition("Progressing") == "NewReplicaSetAvailable"
    });
    let nodes: std::collections::BTreeSet<String> =
        cluster.api.all("pods").iter().map(|pod| pod["spec"]["nodeName"].to_string()).collect();
    assert_eq!(nodes.len(), 3, "replicas spread");
    cluster.wait("three endpoints", |api| api.ready_endpoints() == 3);

    cluster.api.watch_minimum(3);
    cluster.change(&json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]}}}}));
    cluster.wait("the new version", |_| cluster.pods("v2") == 3 && cluster.pods("v1") == 0);
    cluster.wait("the end of the rollout", |_| cluster.condition("Progressing") == "NewReplicaSetAvailable");
    assert_eq!(cluster.api.unwatch_minimum(), 3, "never fewer than asked for: maxUnavailable is 0");
    let web = cluster.api.get("deployments.apps", "ns", "web").unwrap();
    assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");

    cluster.change(&json!({"spec": {"replicas": 1}}));
    cluster.wait("one pod", |api| api.all("pods").len() == 1 && api.ready_endpoints() == 1);
    cluster.change(&json!({"spec": {"replicas": 6}}));
    cluster.wait("six pods", |api| cluster.pods("v2") == 6 && api.ready_endpoints() == 6);

    // Back to the first template: its set is still there and is used again.
    cluster.change(&json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v1",
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]}}}}));
    cluster.wait("the first version again", |api| cluster.pods("v1") == 6 && api.all("pods").len() == 6);
    assert_eq!(cluster.api.all("replicasets.apps").len(), 2);
}

#[test]
fn recreate_never_mixes_versions() {
    let cluster = Cluster::start();
    cluster.deploy(2, &json!({"type": "Recreate"}));
    cluster.wait("two pods", |_| cluster.pods("v1") == 2);
    cluster.change(&json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}));
    cluster.wait("the new version", |_| {
        assert!(cluster.pods("v1") == 0 || cluster.pods("v2") == 0, "both versions ran");
        cluster.pods("v2") == 2
    });
}

#[test]
fn deletion_takes_everything_along() {
    let cluster = Cluster::start();
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| cluster.pods("v1") == 3);
    cluster.api.begin_delete("deployments.apps", "ns", "web", None);
    cluster.wait("nothing left", |api| api.all("pods").is_empty() && api.all("replicasets.apps").is_empty());
}

#[test]
fn foreground_deletion_ends_with_the_owner() {
    let cluster = Cluster::start();
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| cluster.pods("v1") == 3);
    cluster.api.begin_delete("deployments.apps", "ns", "web", Some("foregroundDeletion"));
    cluster.wait("the deployment gone", |api| {
        let gone = api.get("deployments.apps", "ns", "web").is_none();
        assert!(!gone || api.all("replicasets.apps").is_empty(), "the owner went before what it owns");
        gone
    });
    assert!(cluster.api.all("pods").is_empty());
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start();
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| cluster.pods("v1") == 3);
    cluster.api.begin_delete("namespaces", "", "ns", None);
    cluster.wait("the namespace gone", |api| api.get("namespaces", "", "ns").is_none());
    for resource in ["pods", "replicasets.apps", "deployments.apps", "configmaps", "serviceaccounts", "events"] {
        assert!(cluster.api.all(resource).is_empty(), "{resource} left");
    }
}

#[test]
fn an_expired_watch_loses_nothing() {
    let cluster = Cluster::start();
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| cluster.pods("v1") == 3);
    cluster.api.expire(|api| {
        let pod = api.all("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
        api.remove("pods", "ns", &pod);
        api.change("deployments.apps", "ns", "web", &json!({"spec": {"replicas": 5}}));
    });
    cluster.wait("five pods", |_| cluster.pods("v1") == 5);
}

#[test]
fn a_panic_costs_a_retry() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let api = Arc::new(Fake::new());
    api.create("nodes", "", json!({"metadata": {"name": "n"}, "spec": {}}));
    let stop = Arc::new(AtomicBool::new(false));
    let controller = Controller {
        name: "panicky",
        watches: &["nodes"],
        keys: |_, change| vec![change.key.clone()],
        reconcile: |_, _, _| {
            assert!(CALLS.fetch_add(1, Ordering::SeqCst) > 1, "on purpose: the first two times");
            Vec::new()
        },
        priority: None,
        concurrency: Concurrency::PerKey,
    };
    let handle = runner::run_controllers(api, Settings::default(), Arc::clone(&stop), vec![controller]);
    let began = Instant::now();
    while CALLS.load(Ordering::SeqCst) < 3 {
        assert!(began.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    handle.join().expect("a clean stop");
}

#[test]
fn nothing_more_is_written_when_all_is_well() {
    let cluster = Cluster::start();
    cluster.deploy(3, &rolling());
    cluster.wait("three pods", |_| {
        cluster.pods("v1") == 3 && cluster.condition("Progressing") == "NewReplicaSetAvailable"
    });
    // Two equal looks, some rounds apart, within the deadline: the cluster has come to rest.
    cluster.wait("rest", |api| {
        let before = api.revision();
        std::thread::sleep(Duration::from_millis(300));
        api.revision() == before
    });
}
