//! What was acknowledged survives a `kill -9` of the server.
//!
//! The server to be killed is this test program again, told by the environment to serve instead of testing.
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control_plane::pki::Authority;
use serde_json::json;

use crate::client::{Client, args};

const PLACE: &str = "WEFT_TEST_SERVE_IN";

/// Not a test of its own: the body of the child process.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(directory) = std::env::var(PLACE) else { return };
    let directory = std::path::PathBuf::from(directory);
    let running = control_plane::server::Running::start(&args(&directory)).await.expect("a server");
    let beside = directory.join("address.new");
    std::fs::write(&beside, running.addresses[0].to_string()).expect("the address is written");
    std::fs::rename(beside, directory.join("address")).expect("the address is shown");
    std::future::pending::<()>().await;
}

/// Dies with its guard.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already, when the test has failed.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn serve(directory: &std::path::Path) -> (Server, Client) {
    let address = directory.join("address");
    let _none_yet = std::fs::remove_file(&address);
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["durability::child", "--exact", "--nocapture"]).env(PLACE, directory);
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child process"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let address = loop {
        if let Ok(text) = std::fs::read_to_string(&address) {
            break text.parse().expect("an address");
        }
        assert!(Instant::now() < deadline, "the child does not serve");
        std::thread::sleep(Duration::from_millis(20));
    };
    let authority = Authority::open(directory).expect("the authority");
    let pair = authority.client("admin", &["system:masters".to_owned()]).expect("a certificate");
    (server, Client::new(address, &authority.certificate, Some((&pair.certificate, &pair.key))))
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let maps = "/api/v1/namespaces/default/configmaps";
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let (server, client) = serve(directory.path());
        for name in &acknowledged {
            client.get(&format!("{maps}/{name}")).await.expect(200);
        }
        for batch in 0..5 {
            let names: Vec<String> = (0..8).map(|n| format!("m-{round}-{batch}-{n}")).collect();
            let writes = names.iter().map(|name| client.post(maps, json!({"metadata": {"name": name}})));
            for answer in futures::future::join_all(writes).await {
                answer.expect(201);
            }
            acknowledged.extend(names);
        }
        drop(server); // kill -9, right after the last answer.
    }
    let (_server, client) = serve(directory.path());
    let list = client.get(maps).await.expect(200);
    let held: Vec<&str> =
        list["items"].as_array().expect("items").iter().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    for name in &acknowledged {
        assert!(held.contains(&name.as_str()), "{name} was acknowledged and is lost");
    }
}
