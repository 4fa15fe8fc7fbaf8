//! What nodes do: heartbeats, events, logs. The node that serves logs is a TLS server of this test.
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Cluster, args};

/// Answers every request with its first line, to nobody but the API server.
async fn node(cluster: &Cluster) -> u16 {
    let pem = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(&cluster.authority.certificate)).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let pair = cluster.authority.serving("n", &["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows them")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(vec![pem(&pair.certificate)], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.expect("a client certificate");
            let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
            let user = control_plane::authn::user_of_certificate(&peer.expect("a certificate")).expect("a user");
            let mut buffer = vec![0; 4096];
            let length = stream.read(&mut buffer).await.expect("a request");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let line = text.lines().next().unwrap_or_default();
            let body = format!("{} {line}\n", user.name);
            let code = if line.contains("previous=true") { "400 Bad Request" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {code}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            stream.shutdown().await.expect("an end");
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_node() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let port = node(&cluster).await;
    admin.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.expect(201);
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    admin.patch("strategic-merge", "/api/v1/nodes/n/status", status).await.expect(200);
    let pods = "/api/v1/namespaces/default/pods";
    let spec = json!({"containers": [{"name": "c", "image": "i:1"}], "nodeName": "n"});
    admin.post(pods, json!({"metadata": {"name": "p"}, "spec": spec})).await.expect(201);
    let log = admin.get(&format!("{pods}/p/log?follow=true&tailLines=5")).await.expect(200);
    assert_eq!(
        log,
        json!("kube-apiserver-kubelet-client GET /containerLogs/default/p/c?follow=true&tailLines=5 HTTP/1.1\n")
    );
    let refused = admin.get(&format!("{pods}/p/log?previous=true")).await.refused(400);
    assert!(refused.contains("previous=true"), "the node's words: {refused}");
    let unknown = admin.get(&format!("{pods}/p/log?container=x")).await.refused(400);
    assert_eq!(unknown, "container x is not valid for pod p");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_do_its_work_and_no_more() {
    let cluster = Cluster::start().await;
    let node = cluster.user("system:node:n", &["system:nodes"]);
    let made = node.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(made["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
    let status = json!({"status": {"conditions": [condition], "capacity": {"cpu": "2"}}});
    node.patch("strategic-merge", "/api/v1/nodes/n/status", status).await.expect(200);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    node.put(lease, json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n"}})).await.expect(201);
    node.delete("/api/v1/nodes/n").await.refused(403);
    node.get("/api/v1/namespaces/default/deployments").await.refused(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_has_two_forms() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let regarding = json!({"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1"});
    let event = json!({
        "metadata": {"name": "e"}, "regarding": regarding, "reason": "Started", "note": "a note", "type": "Normal",
        "action": "Start", "reportingController": "test", "reportingInstance": "t-1", "eventTime": "2026-11-21T00:00:00.000000Z",
    });
    admin.post("/apis/events.k8s.io/v1/namespaces/default/events", event).await.expect(201);
    let core = admin.get("/api/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("a note"), &json!("p")));
    assert_eq!((&core["apiVersion"], &core["reportingComponent"]), (&json!("v1"), &json!("test")));
    let list = admin.get("/apis/events.k8s.io/v1/namespaces/default/events").await.expect(200);
    let found = list["items"].as_array().and_then(|items| items.iter().find(|item| item["metadata"]["name"] == "e"));
    assert_eq!(found.expect("the event")["note"], "a note");
    let mut events =
        admin.watch("/apis/events.k8s.io/v1/namespaces/default/events?watch=1&fieldSelector=metadata.name%3De").await;
    assert_eq!(events.next().await.1["note"], "a note");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_can_be_inherited() {
    use std::os::fd::IntoRawFd;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut arguments = args(directory.path());
    arguments.listen_fd = vec![listener.into_raw_fd()];
    let running = control_plane::server::Running::start(&arguments).await.expect("a server");
    assert_eq!(running.addresses[1], address);
    let authority = control_plane::pki::Authority::open(directory.path()).expect("the authority");
    let nobody = crate::client::Client::new(address, &authority.certificate, None);
    nobody.get("/readyz").await.expect(200);
    running.stop().await;
    arguments.listen_fd = vec![9999];
    let refused = control_plane::server::Running::start(&arguments).await.err().expect("no such descriptor");
    assert_eq!(refused.to_string(), "cannot listen on the inherited descriptor 9999");
}
