//! An API server of a few lines: lists, watches, and objects that a test puts and removes.
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast};

type Body = BoxBody<Bytes, Infallible>;

/// Objects by path of their kind and name.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(String, u64, Value)>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
}

impl Api {
    /// Listens on 127.0.0.1.
    pub(crate) async fn start() -> (Api, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let api = Api { state: Arc::default(), changes: broadcast::channel(1_000).0 };
        let served = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let api = api.clone();
                        async move {
                            let (parts, body) = request.into_parts();
                            let body =
                                body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                            Ok::<_, Infallible>(api.answer(&Request::from_parts(parts, body)))
                        }
                    });
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (api, address)
    }

    /// Puts an object of the kind that `path` lists, as `/api/v1/pods`.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().expect("no panic");
        state.revision += 1;
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        let key = (path.to_owned(), format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]));
        let kind = if state.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        let _ = self.changes.send((path.to_owned(), state.revision, json!({ "type": kind, "object": object })));
    }

    /// Removes an object.
    pub(crate) fn remove(&self, path: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.revision += 1;
        let key = (path.to_owned(), format!("{namespace:?}/{name:?}"));
        if let Some(mut object) = state.objects.remove(&key) {
            object["metadata"]["resourceVersion"] = state.revision.to_string().into();
            let event = json!({ "type": "DELETED", "object": object });
            let _ = self.changes.send((path.to_owned(), state.revision, event));
        }
    }

    /// An object of the whole cluster, by its own path.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let (kind, name) = path.rsplit_once('/')?;
        let key = (kind.to_owned(), format!("null/{name:?}"));
        self.state.lock().expect("no panic").objects.get(&key).cloned()
    }

    /// Conditions into a status, each in the place of the one of its type, or out of it: all that anybody patches here.
    fn patch(&self, path: &str, patch: &Value) -> Option<Value> {
        let mut object = self.get(path)?;
        let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for new in patch["status"]["conditions"].as_array().into_iter().flatten() {
            conditions.retain(|old| old["type"] != new["type"]);
            if new["$patch"] != "delete" {
                conditions.push(new.clone());
            }
        }
        object["status"]["conditions"] = conditions.into();
        self.put(path.rsplit_once('/')?.0, object.clone());
        Some(object)
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let body = || serde_json::from_slice(request.body()).unwrap_or_default();
        let one = match path.strip_suffix("/status") {
            Some(own) if request.method() == "PATCH" => self.patch(own, &body()),
            Some(own) => self.get(own),
            None => None,
        };
        let mut response = if let Some(object) = one {
            Response::new(Full::new(Bytes::from(object.to_string())).boxed())
        } else if query.contains("watch=true") || query.contains("watch=1") {
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap_or("0");
            Response::new(self.watch(path, from.parse().unwrap_or(0)))
        } else {
            let state = self.state.lock().expect("no panic");
            let items: Vec<&Value> = state.objects.iter().filter(|(key, _)| key.0 == path).map(|(_, v)| v).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items,
                "metadata": { "resourceVersion": state.revision.to_string() } });
            Response::new(Full::new(Bytes::from(list.to_string())).boxed())
        };
        response.headers_mut().insert("content-type", "application/json".parse().expect("a header"));
        response
    }

    fn watch(&self, path: String, from: u64) -> Body {
        let state = self.state.lock().expect("no panic");
        let changes = self.changes.subscribe();
        // What changed between the list and here.
        let missed: Vec<Value> = state
            .objects
            .iter()
            .filter(|(key, _)| key.0 == path)
            .filter(|(_, object)| {
                object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()) > Some(from)
            })
            .map(|(_, object)| json!({ "type": "MODIFIED", "object": object }))
            .collect();
        let line = |event: &Value| Ok(Frame::data(Bytes::from(format!("{event}\n"))));
        let missed = tokio_stream::iter(missed.iter().map(line).collect::<Vec<_>>());
        let later = futures::stream::unfold((changes, path), move |(mut changes, path)| async move {
            loop {
                let (of, revision, event) = changes.recv().await.ok()?;
                if of == path && revision > from {
                    return Some((Ok(Frame::data(Bytes::from(format!("{event}\n")))), (changes, path)));
                }
            }
        });
        BodyExt::boxed(StreamBody::new(futures::StreamExt::chain(missed, later)))
    }
}
