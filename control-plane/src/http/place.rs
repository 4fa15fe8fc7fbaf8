//! Path and method → what is asked: a resource of the API with its verb, or another path.
//!
//! As upstream's RequestInfo has it, so that authorization asks the same questions.
use http::Method;

use super::query::{Query, decode};

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Whether it is a resource; else only `path` and `verb` say something.
    pub is_resource: bool,
    /// The whole path.
    pub path: String,
    /// `get`, `list`, `watch`, …; the method in lower case for other paths.
    pub verb: &'static str,
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Empty is the whole cluster.
    pub namespace: String,
    /// Plural name.
    pub resource: String,
    /// Empty is all of them.
    pub name: String,
    /// Empty, or `status`, `log`, …
    pub subresource: String,
    /// What follows the subresource: for proxies.
    pub rest: String,
}

impl Place {
    /// Reads a request's first line.
    pub(super) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut place = Self { path: path.to_owned(), verb: method_verb(method), ..Self::default() };
        let parts: Vec<String> = path.trim_matches('/').split('/').map(|part| decode(part, false)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                (*version).clone_into(&mut place.version);
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                (*group).clone_into(&mut place.group);
                (*version).clone_into(&mut place.version);
                rest
            }
            _ => return place,
        };
        place.is_resource = true;
        place.locate(rest);
        place.verb = resource_verb(method, &place.name, query);
        if place.name.is_empty() && matches!(place.verb, "list" | "watch" | "deletecollection") {
            // A list of one name is asked about like that name.
            let selector = query.get("fieldSelector");
            let name = selector.split(',').find_map(|term| term.strip_prefix("metadata.name="));
            name.unwrap_or_default().trim_start_matches('=').clone_into(&mut place.name);
        }
        place
    }

    fn locate(&mut self, parts: &[&str]) {
        let parts = match parts {
            // `namespaces/<name>/status` and `…/finalize` are the namespace's own.
            ["namespaces", namespace, "status" | "finalize"] | ["namespaces", namespace] => {
                (*namespace).clone_into(&mut self.namespace);
                parts
            }
            ["namespaces", namespace, rest @ ..] => {
                (*namespace).clone_into(&mut self.namespace);
                rest
            }
            _ => parts,
        };
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        self.resource = part(0);
        self.name = part(1);
        self.subresource = part(2);
        self.rest = parts.get(3..).unwrap_or_default().join("/");
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "connect",
    }
}

fn resource_verb(method: &Method, name: &str, query: &Query) -> &'static str {
    match (method, name.is_empty()) {
        (&Method::GET | &Method::HEAD, true) if query.flag("watch") => "watch",
        (&Method::GET | &Method::HEAD, true) => "list",
        (&Method::GET | &Method::HEAD, false) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "deletecollection",
        (&Method::DELETE, false) => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Place, Query};

    #[track_caller]
    fn check(request: &str, expected: &str) {
        let (method, url) = request.split_once(' ').expect("a method and a path");
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let place = Place::parse(&method.parse::<Method>().expect("a method"), path, &Query::parse(query));
        let found = if place.is_resource {
            let list =
                [&*place.group, &place.version, &place.namespace, &place.resource, &place.name, &place.subresource];
            format!("{} {}", place.verb, list.join(":"))
        } else {
            format!("{} {}", place.verb, place.path)
        };
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn paths_and_methods_become_questions() {
        check("GET /api/v1/pods", "list :v1::pods::");
        check("GET /api/v1/pods?watch=true", "watch :v1::pods::");
        check("GET /api/v1/namespaces", "list :v1::namespaces::");
        check("GET /api/v1/namespaces/a", "get :v1:a:namespaces:a:");
        check("PUT /api/v1/namespaces/a/finalize", "update :v1:a:namespaces:a:finalize");
        check("GET /api/v1/namespaces/a/pods/b/log", "get :v1:a:pods:b:log");
        check("POST /apis/apps/v1/namespaces/a/deployments", "create apps:v1:a:deployments::");
        check("DELETE /apis/apps/v1/namespaces/a/deployments", "deletecollection apps:v1:a:deployments::");
        check("GET /api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db", "list :v1:a:pods:b:");
        check("GET /api/v1/nodes/n/proxy/a/b", "get :v1::nodes:n:proxy");
        check("GET /api", "get /api");
        check("GET /api/v1", "get /api/v1");
        check("GET /apis/apps/v1", "get /apis/apps/v1");
        check("GET /healthz?verbose", "get /healthz");
    }
}
