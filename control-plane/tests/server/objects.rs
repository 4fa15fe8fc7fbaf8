//! The verbs on objects.
use serde_json::{Value, json};

use crate::client::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives_and_dies() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let created = admin.post(MAPS, map("m", &json!({}))).await.expect(201);
    assert!(created["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    assert_eq!(created["metadata"]["namespace"], "default");
    assert_eq!(admin.post(MAPS, map("m", &json!({}))).await.refused(409), "configmaps \"m\" already exists");
    assert_eq!(admin.get(&format!("{MAPS}/m")).await.expect(200), created);
    assert_eq!(admin.get(&format!("{MAPS}/n")).await.refused(404), "configmaps \"n\" not found");

    let mut changed = created.clone();
    changed["data"]["a"] = json!("2");
    let updated = admin.put(&format!("{MAPS}/m"), changed.clone()).await.expect(200);
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let conflict = admin.put(&format!("{MAPS}/m"), changed).await.refused(409);
    assert_eq!(
        conflict,
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let same = admin.put(&format!("{MAPS}/m"), updated.clone()).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"], "no change, no write");

    let gone = admin.delete(&format!("{MAPS}/m")).await.expect(200);
    assert_eq!((&gone["status"], &gone["details"]["uid"]), (&json!("Success"), &created["metadata"]["uid"]));
    admin.get(&format!("{MAPS}/m")).await.refused(404);
    admin.delete(&format!("{MAPS}/m")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_three_kinds() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.post(MAPS, map("m", &json!({"x": "y"}))).await.expect(201);
    let path = format!("{MAPS}/m");
    let merged = admin.patch("merge", &path, json!({"metadata": {"labels": {"x": null, "z": "1"}}})).await.expect(200);
    assert_eq!(merged["metadata"]["labels"], json!({"z": "1"}));
    let patched = admin.patch("json", &path, json!([{"op": "add", "path": "/data/b", "value": "2"}])).await.expect(200);
    assert_eq!(patched["data"], json!({"a": "1", "b": "2"}));
    let strategic = admin.patch("strategic-merge", &path, json!({"data": {"b": null}})).await.expect(200);
    assert_eq!(strategic["data"], json!({"a": "1"}));
    admin.patch("json", &path, json!([{"op": "test", "path": "/data/a", "value": "9"}])).await.refused(422);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "9"}});
    admin.patch("merge", &path, stale).await.refused(409);
    admin.patch("apply", &path, json!({})).await.refused(415);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_dry_runs() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut object = map("m", &json!({}));
    object["unknown"] = json!(1);
    let strict = admin.post(&format!("{MAPS}?fieldValidation=Strict"), object.clone()).await.refused(400);
    assert!(strict.contains("unknown field \"unknown\""), "{strict}");
    let warned = admin.post(&format!("{MAPS}?fieldValidation=Warn&dryRun=All"), object).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"unknown\\\"\"");
    assert!(warned.expect(201)["metadata"].get("resourceVersion").is_none());
    admin.get(&format!("{MAPS}/m")).await.refused(404);
    let bad = json!({"metadata": {"name": "Bad_Name"}});
    let refusal = admin.post(MAPS, bad).await.expect(422);
    assert_eq!(refusal["details"]["causes"][0]["field"], "metadata.name");
    let elsewhere = admin.post("/api/v1/namespaces/nowhere/configmaps", map("m", &json!({}))).await;
    assert_eq!(elsewhere.refused(404), "namespaces \"nowhere\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_in_pages_and_by_selectors() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    for n in 0..5 {
        admin.post(MAPS, map(&format!("m{n}"), &json!({"odd": (n % 2).to_string()}))).await.expect(201);
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    let selected = admin.get(&format!("{MAPS}?labelSelector=odd%3D1")).await.expect(200);
    assert_eq!(names(&selected), ["m1", "m3"]);
    let named = admin.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm2")).await.expect(200);
    assert_eq!(names(&named), ["m2"]);
    let everywhere = admin.get("/api/v1/configmaps?labelSelector=odd").await.expect(200);
    assert_eq!(names(&everywhere).len(), 5);

    let first = admin.get(&format!("{MAPS}?limit=2&labelSelector=odd")).await.expect(200);
    assert_eq!(names(&first), ["m0", "m1"]);
    admin.delete(&format!("{MAPS}/m3")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().expect("more").to_owned();
    let next = admin.get(&format!("{MAPS}?limit=2&labelSelector=odd&continue={token}")).await.expect(200);
    assert_eq!(names(&next), ["m2", "m3"], "the page is of the first page's moment");
    assert_eq!(next["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let revision = first["metadata"]["resourceVersion"].as_str().expect("a revision");
    let exact =
        admin.get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact&labelSelector=odd")).await;
    assert_eq!(names(&exact.expect(200)).len(), 5);
    let counted = admin.get(&format!("{MAPS}?limit=1")).await.expect(200);
    assert_eq!(counted["metadata"]["remainingItemCount"], 4, "with kube-root-ca.crt");
    let future = admin.get(&format!("{MAPS}?resourceVersion=999999")).await.refused(504);
    assert!(future.starts_with("Timeout: Too large resource version: 999999"), "{future}");

    let deleted = admin.delete(&format!("{MAPS}?labelSelector=odd")).await.expect(200);
    assert_eq!(names(&deleted).len(), 4);
    assert_eq!(names(&admin.get(MAPS).await.expect(200)), ["kube-root-ca.crt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_generated_and_leases_come_by_put() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let made = admin.post(MAPS, json!({"metadata": {"generateName": "m-"}})).await.expect(201);
    assert_eq!(made["metadata"]["name"].as_str().map(str::len), Some(7));
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    let object = json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}});
    admin.put(lease, object).await.expect(201);
    admin.put(&format!("{MAPS}/absent"), map("absent", &json!({}))).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_what_is_deleted() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let mut object = map("m", &json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(MAPS, object).await.expect(201);
    let path = format!("{MAPS}/m");
    let marked = admin.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    admin.patch("merge", &path, more).await.refused(422);
    admin.patch("merge", &path, json!({"metadata": {"finalizers": null}})).await.expect(200);
    admin.get(&path).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_scale_are_apart() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec =
        json!({"serviceName": "s", "replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let set =
        admin.post(sets, json!({"metadata": {"name": "s"}, "spec": spec, "status": {"replicas": 9}})).await.expect(201);
    assert_ne!(set["status"]["replicas"], 9, "a new object has no status of the client's");
    assert_eq!(set["metadata"]["generation"], 1);
    let path = format!("{sets}/s");
    let status = json!({"spec": {"replicas": 7}, "status": {"replicas": 3, "observedGeneration": 1}});
    let set = admin.patch("merge", &format!("{path}/status"), status).await.expect(200);
    assert_eq!((&set["spec"]["replicas"], &set["status"]["replicas"]), (&json!(2), &json!(3)));
    assert_eq!(set["metadata"]["generation"], 1);
    let scale = admin.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("a=b")));
    let scaled = admin.patch("merge", &format!("{path}/scale"), json!({"spec": {"replicas": 5}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let refused = admin.patch("merge", &format!("{path}/scale"), json!({"spec": {"replicas": -1}})).await.refused(422);
    assert_eq!(
        refused,
        "Scale.autoscaling \"s\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let set = admin.get(&path).await.expect(200);
    assert_eq!((&set["spec"]["replicas"], &set["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_metadata_only() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.post(MAPS, map("m", &json!({}))).await.expect(201);
    let table = admin.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").get(MAPS).await;
    let table = table.expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = admin.with("accept", accept).get(MAPS).await.expect(200);
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert!(metadata["items"][0].get("data").is_none());
    admin.with("accept", "text/html").get(MAPS).await.refused(406);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_health() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    assert_eq!(admin.get("/version").await.expect(200)["gitVersion"], "v1.36.2+weft");
    assert_eq!(admin.get("/readyz").await.expect(200), json!("ok"));
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = admin.with("accept", aggregated).get("/apis").await;
    assert_eq!(answer.headers["content-type"], aggregated);
    let etag = answer.headers["etag"].to_str().expect("text").to_owned();
    let again = admin.with("accept", aggregated).with("if-none-match", &etag).get("/apis").await;
    assert_eq!(again.code, 304);
    assert_eq!(admin.get("/api").await.expect(200)["versions"], json!(["v1"]));
    assert_eq!(admin.get("/apis/apps/v1").await.expect(200)["kind"], "APIResourceList");
    admin.get("/apis/nowhere/v1").await.refused(404);
    admin.get("/apis/nowhere/v1/things").await.refused(404);
    let index = admin.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a document").to_owned();
    assert_eq!(admin.get(&url).await.expect(200)["openapi"], "3.0.0");
}
