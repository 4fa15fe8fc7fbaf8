//! Who may do what.
use serde_json::json;

use crate::client::{Client, Cluster};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_sees_health_only() {
    let cluster = Cluster::start().await;
    let nobody = cluster.nobody();
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        nobody.get(path).await.expect(200);
    }
    assert_eq!(nobody.get("/api").await.refused(403), "forbidden: User \"system:anonymous\" cannot get path \"/api\"");
    assert_eq!(
        nobody.get(PODS).await.refused(403),
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    nobody.with("authorization", "Bearer nonsense").get("/healthz").await.refused(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_what_is_bound() {
    let cluster = Cluster::start().await;
    let (admin, jane) = (&cluster.admin, cluster.user("jane", &["dev"]));
    assert_eq!(
        jane.get("/api/v1/nodes").await.refused(403),
        "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({
        "metadata": {"name": "dev"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "dev"}],
    });
    admin.post(bindings, binding).await.expect(201);
    jane.get(PODS).await.expect(200);
    jane.get("/api/v1/namespaces/kube-system/pods").await.refused(403);
    jane.get("/api/v1/namespaces/default/secrets").await.refused(403);
    jane.delete(&format!("{PODS}/a")).await.refused(403);
    let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(jane.post(reviews, review.clone()).await.expect(201)["status"]["allowed"], true);
    let (kate, as_jane) = (cluster.user("kate", &[]), admin.with("impersonate-user", "jane"));
    assert_eq!(kate.post(reviews, review).await.expect(201)["status"]["allowed"], false);
    as_jane.get(PODS).await.refused(403);
    as_jane.with("impersonate-group", "dev").get(PODS).await.expect(200);
    kate.with("impersonate-user", "jane").get(PODS).await.refused(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let group = "rbac.authorization.k8s.io";
    let binding = |name: &str, role: &str, user: &str| {
        json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
        })
    };
    cluster.admin.post(bindings, binding("a", "admin", "jane")).await.expect(201);
    let jane = cluster.user("jane", &[]);
    jane.post(bindings, binding("b", "view", "kate")).await.expect(201);
    let refused = jane.post(bindings, binding("c", "cluster-admin", "kate")).await.refused(403);
    assert!(refused.contains("is attempting to grant RBAC permissions not currently held"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_shows_its_token() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, json!({"metadata": {"name": "robot"}})).await.expect(201);
    let request = json!({"spec": {"expirationSeconds": 600}});
    let answer = admin.post(&format!("{accounts}/robot/token"), request).await.expect(201);
    let token = answer["status"]["token"].as_str().expect("a token").to_owned();
    let robot: Client = cluster.nobody().with("authorization", &format!("Bearer {token}"));
    let who = robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await.expect(201);
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:default:robot");
    robot.get("/api").await.expect(200);
    robot.get(PODS).await.refused(403);
    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_eq!(admin.post(reviews, review.clone()).await.expect(201)["status"]["authenticated"], true);
    admin.delete(&format!("{accounts}/robot")).await.expect(200);
    robot.get("/api").await.refused(401);
    assert!(admin.post(reviews, review).await.expect(201)["status"]["error"].is_string());
}
