//! Network plugins: what they are told, and what becomes of their words.
use std::fs;

use node::runtime::{Error, Runtime, SandboxConfig};

use crate::{Place, pod};

pub(crate) async fn tells_the_plugins_what_is_valid() {
    let place = Place::new("valid");
    let runtime = place.open();
    let valid = || {
        let text = fs::read_to_string(place.dir.path().join("cni/gc")).expect("GC was called");
        fs::remove_file(place.dir.path().join("cni/gc")).expect("it is there");
        text
    };
    assert!(runtime.clean_network().await.expect("gc"));
    assert!(valid().contains(r#""cni.dev/valid-attachments":[]"#));
    let sandbox = runtime.run_sandbox(&pod("valid")).await.expect("sandbox");
    let host = SandboxConfig { host_network: true, ..pod("host") };
    let host = runtime.run_sandbox(&host).await.expect("sandbox");
    // A node that comes back tells the same, and one without a network of its own is no attachment.
    drop(runtime);
    let runtime = place.open();
    assert!(runtime.clean_network().await.expect("gc"));
    let expected = format!(r#""cni.dev/valid-attachments":[{{"containerID":"{}","ifname":"eth0"}}]"#, sandbox.id);
    let said = valid();
    assert!(said.contains(&expected), "{said}");
    // What the plugins still hold stays valid until DEL has worked.
    fs::write(place.dir.path().join("cni/fail"), "").expect("flag");
    runtime.stop_sandbox(&sandbox.id).await.expect_err("DEL fails");
    assert!(runtime.clean_network().await.is_err());
    assert!(valid().contains(&expected));
    fs::remove_file(place.dir.path().join("cni/fail")).expect("flag");
    runtime.remove_sandbox(&sandbox.id).await.expect("remove");
    assert!(runtime.clean_network().await.expect("gc"));
    assert!(valid().contains(r#""cni.dev/valid-attachments":[]"#));
    runtime.remove_sandbox(&host.id).await.expect("remove");
    println!("test network plugins are told which attachments are valid ... ok");
}

pub(crate) async fn a_network_that_fails_leaves_nothing() {
    let place = Place::new("fail");
    let runtime = place.open();
    fs::write(place.dir.path().join("cni/fail"), "").expect("flag");
    let error = runtime.run_sandbox(&pod("fail")).await.expect_err("no network");
    assert!(matches!(error, Error::Network { .. }));
    let text = error.text();
    assert!(
        text.starts_with("failed to setup network for sandbox \"")
            && text.ends_with("plugin type=\"plain\" failed (add): no agent"),
        "{text}"
    );
    // DEL failed too: the sandbox stays until it works.
    assert_eq!(runtime.sandboxes(None).len(), 1);
    fs::remove_file(place.dir.path().join("cni/fail")).expect("flag");
    let id = runtime.sandboxes(None)[0].id.clone();
    runtime.remove_sandbox(&id).await.expect("remove");
    assert!(runtime.sandboxes(None).is_empty());
    println!("test a network that fails is told in the plugin's words ... ok");
}
