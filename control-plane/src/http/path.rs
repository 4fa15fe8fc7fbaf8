//! Everything that is no resource: health, version, discovery, OpenAPI, metrics, keys of tokens.
use std::sync::Arc;

use api::status::Status;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::reply::{self, Reply};
use super::{Call, Server, accept, openapi_v2};

/// The version of the API that is served.
pub(super) const GIT_VERSION: &str = "v1.36.2+weft";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers an authorized request for a path.
pub(super) async fn handle(server: &Arc<Server>, call: Call) -> Result<Reply, Status> {
    if !matches!(call.place.verb, "get" | "head") {
        return Err(Status::path_not_found());
    }
    let path = call.place.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        [] => Ok(index()),
        ["healthz" | "livez" | "readyz", ..] => Ok(health(server, &call, &parts).await),
        ["version"] => Ok(reply::value(200, &version())),
        ["metrics"] => Ok(metrics(server)),
        ["api"] => Ok(discovery(&call, true)),
        ["apis"] => Ok(discovery(&call, false)),
        ["api", version] => legacy(api::discovery::resources("", version)),
        ["apis", group] => legacy(api::discovery::group(group)),
        ["apis", group, version] => legacy(api::discovery::resources(group, version)),
        ["openapi", "v2"] => Ok(openapi_v2(&call)),
        ["openapi", "v3"] => Ok(reply::value(200, &api::openapi::index())),
        ["openapi", "v3", rest @ ..] => openapi(&call, &rest.join("/")),
        ["openid", "v1", "jwks"] => Ok(reply::value(200, &server.tokens.key_set())),
        [".well-known", "openid-configuration"] => Ok(reply::value(200, &openid(server))),
        _ => Err(Status::path_not_found()),
    }
}

fn index() -> Reply {
    let groups = api::schema::groups().iter().filter(|(group, _)| !group.is_empty());
    let groups = groups.flat_map(|(group, versions)| {
        std::iter::once(format!("/apis/{group}"))
            .chain(versions.iter().map(move |version| format!("/apis/{group}/{version}")))
    });
    let fixed = [
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<String> = fixed.into_iter().map(str::to_owned).chain(groups).collect();
    paths.sort_unstable();
    reply::value(200, &json!({"paths": paths}))
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
    })
}

/// The checks of a probe: all in one word, or one by one with `?verbose`, or a single one by its name.
async fn health(server: &Server, call: &Call, parts: &[&str]) -> Reply {
    let stored = server.registry.cache.catch_up().await.is_ok();
    let checks = [("ping", true), ("storage", stored)];
    let wanted = parts.get(1).copied();
    if wanted.is_some_and(|name| !checks.iter().any(|(known, _)| *known == name)) {
        return reply::bytes(404, "text/plain; charset=utf-8", "404 page not found\n");
    }
    let excluded = call.query.all("exclude");
    let run =
        || checks.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name) && !excluded.contains(name));
    let good = run().all(|(_, good)| *good);
    let code = if good { 200 } else { 500 };
    let verdict = if good { "passed" } else { "failed" };
    let text = if call.query.has("verbose") || !good {
        let lines: String = run()
            .map(
                |(name, good)| {
                    if *good { format!("[+]{name} ok\n") } else { format!("[-]{name} failed: reason withheld\n") }
                },
            )
            .collect();
        format!("{lines}{} check {verdict}\n", parts[0])
    } else {
        "ok".to_owned()
    };
    reply::bytes(code, "text/plain; charset=utf-8", text)
}

fn metrics(server: &Server) -> Reply {
    let text = server.metrics.text(&server.registry.cache);
    reply::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

fn discovery(call: &Call, core: bool) -> Reply {
    if accept::aggregated(&call.headers).is_none() {
        let list = if core { api::discovery::core_versions() } else { api::discovery::groups() };
        return vary(reply::value(200, &list));
    }
    let body = api::discovery::aggregated(core).to_string();
    let etag = etag(body.as_bytes());
    let mut reply = vary(cached(call, &etag, body.into_bytes()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    reply
}

fn vary(mut reply: Reply) -> Reply {
    reply.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    reply
}

fn legacy(found: Option<Value>) -> Result<Reply, Status> {
    found.map(|value| reply::value(200, &value)).ok_or_else(Status::path_not_found)
}

fn openapi(call: &Call, path: &str) -> Result<Reply, Status> {
    let document = api::openapi::document(path).ok_or_else(Status::path_not_found)?;
    let etag = api::openapi::hash(path).map_or_else(|| etag(&document), |hash| format!("\"{hash}\""));
    if unchanged(call, &etag) {
        return Ok(not_modified(&etag));
    }
    let mut reply = reply::long_json(document.to_vec(), accept::gzip(&call.headers));
    set_etag(&mut reply, &etag);
    if call.query.has("hash") {
        // The hash is in the URL: what it names never changes.
        reply.headers_mut().insert("cache-control", HeaderValue::from_static("public, immutable"));
    }
    Ok(reply)
}

fn openapi_v2(call: &Call) -> Reply {
    let protobuf = accept::wants(&call.headers, openapi_v2::PROTOBUF);
    let (media, body) = if protobuf {
        (openapi_v2::PROTOBUF_ANSWER, openapi_v2::protobuf())
    } else {
        (reply::JSON, openapi_v2::json())
    };
    let mut reply = vary(cached(call, &etag(&body), body.to_vec()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

fn etag(body: &[u8]) -> String {
    use base64::Engine;
    format!("\"{}\"", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(body)))
}

fn unchanged(call: &Call, etag: &str) -> bool {
    let known = call.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)
}

fn not_modified(etag: &str) -> Reply {
    let mut reply = Response::new(reply::full(Vec::new()));
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    set_etag(&mut reply, etag);
    reply
}

fn cached(call: &Call, etag: &str, body: Vec<u8>) -> Reply {
    if unchanged(call, etag) {
        return not_modified(etag);
    }
    let mut reply = reply::long_json(body, accept::gzip(&call.headers));
    set_etag(&mut reply, etag);
    reply
}

fn set_etag(reply: &mut Reply, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(etag) {
        reply.headers_mut().insert(ETAG, value);
    }
}

fn openid(server: &Server) -> Value {
    let issuer = server.tokens.issuer();
    json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}
