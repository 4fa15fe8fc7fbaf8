//! The API as a client that waits for a server that is away, and takes a refusal for an answer.
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio::{runtime::Runtime, time::timeout};

/// One request.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    pub(crate) fn new(kubeconfig: &Path) -> Api {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig).unwrap();
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Api { runtime, client }
    }

    /// The answer, or the code and words of a refusal.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, (u16, String)> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
            let request = request.body(bytes.clone()).unwrap();
            let asked = async { timeout(REQUEST, self.client.request::<Value>(request)).await };
            let why = match self.runtime.block_on(asked) {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(kube::Error::Api(status))) if status.code < 500 && status.code != 429 => {
                    return Err((status.code, status.message.clone()));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            assert!(Instant::now() < deadline, "{method} {path}: {why}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null).unwrap_or_else(|refusal| panic!("GET {path}: {refusal:?}"))
    }

    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().cloned().unwrap_or_default()
    }

    /// What is there already was created by a request whose answer got lost.
    #[track_caller]
    pub(crate) fn create(&self, path: &str, object: &Value) {
        match self.ask("POST", path, object) {
            Ok(_) | Err((409, _)) => {}
            Err(refusal) => panic!("POST {path}: {refusal:?}\n{object}"),
        }
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, change: &Value) {
        self.ask("PATCH", path, change).unwrap_or_else(|refusal| panic!("PATCH {path}: {refusal:?}\n{change}"));
    }

    /// What is not there was deleted by a request whose answer got lost.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) {
        match self.ask("DELETE", path, &Value::Null) {
            Ok(_) | Err((404, _)) => {}
            Err(refusal) => panic!("DELETE {path}: {refusal:?}"),
        }
    }
}
