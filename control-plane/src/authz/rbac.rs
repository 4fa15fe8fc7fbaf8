//! RBAC: bindings → roles → rules, compiled from the objects in memory when they change.
//!
//! An object is parsed once per revision; a change of one role costs the others only a rebuilt index.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Deserialize;

use super::{Object, Question};
use crate::authn::User;
use crate::storage::cache::Cache;

/// A rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    #[serde(deserialize_with = "nullable")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "nullable")]
    pub resources: Vec<String>,
    /// Empty is every name.
    #[serde(deserialize_with = "nullable")]
    pub resource_names: Vec<String>,
    /// Paths, or prefixes that end in `*`.
    #[serde(rename = "nonResourceURLs", deserialize_with = "nullable")]
    pub non_resource_urls: Vec<String>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Whether the rule allows it.
    pub fn allows(&self, verb: &str, object: &Object<'_>) -> bool {
        if !any(&self.verbs, verb) {
            return false;
        }
        match *object {
            Object::Path(path) => self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => url == path,
            }),
            Object::Resource { group, resource, subresource, name, .. } => {
                any(&self.api_groups, group)
                    && self.names_resource(resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|known| known == name))
            }
        }
    }

    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|known| match known.split_once('/') {
            _ if known == "*" => true,
            None => subresource.is_empty() && known == resource,
            Some((left, right)) => right == subresource && !subresource.is_empty() && (left == "*" || left == resource),
        })
    }
}

#[derive(Deserialize)]
struct Role {
    #[serde(default, deserialize_with = "null_rules")]
    rules: Vec<Rule>,
}

fn null_rules<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Clone, Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

/// A granted role: where, and which rules.
struct Grant {
    /// Empty is everywhere.
    namespace: String,
    rules: Arc<Vec<Rule>>,
}

#[derive(Default)]
struct Index {
    /// The four tables' revisions that it was made from.
    revisions: [u64; 4],
    grants: HashMap<Who, Vec<Grant>>,
}

const TABLES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

type Parsed<T> = HashMap<Arc<str>, (u64, Arc<T>)>;

#[derive(Default)]
struct Objects {
    cluster_roles: Parsed<Vec<Rule>>,
    roles: Parsed<Vec<Rule>>,
    cluster_bindings: Parsed<Binding>,
    bindings: Parsed<Binding>,
}

/// The authorizer.
pub struct Rbac {
    cache: Arc<Cache>,
    index: RwLock<Arc<Index>>,
    objects: Mutex<Objects>,
}

impl Rbac {
    /// Over the objects of `cache`.
    pub fn new(cache: Arc<Cache>) -> Self {
        Self { cache, index: RwLock::default(), objects: Mutex::default() }
    }

    /// Whether a rule allows it.
    pub fn allows(&self, question: &Question<'_>) -> bool {
        let wanted = match question.object {
            Object::Resource { namespace, .. } => namespace,
            Object::Path(_) => "",
        };
        self.any_rule(question.user, wanted, |rule| rule.allows(question.verb, &question.object))
    }

    /// All rules that hold for the user in a namespace.
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.any_rule(user, namespace, |rule| {
            rules.push(rule.clone());
            false
        });
        rules
    }

    /// The rules of a role, if it exists. `namespace` is empty for a ClusterRole.
    pub fn rules_of_role(&self, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        let entry = if namespace.is_empty() {
            self.cache.get(TABLES[0], name)
        } else {
            self.cache.get(TABLES[1], &format!("{namespace}/{name}"))
        };
        Some(serde_json::from_slice::<Role>(&entry?.value).ok()?.rules)
    }

    fn any_rule(&self, user: &User, namespace: &str, mut found: impl FnMut(&Rule) -> bool) -> bool {
        let index = self.index();
        let subjects = std::iter::once(Who::User(user.name.clone())).chain(user.groups.iter().cloned().map(Who::Group));
        for subject in subjects {
            for grant in index.grants.get(&subject).into_iter().flatten() {
                let here = grant.namespace.is_empty() || grant.namespace == namespace;
                if here && grant.rules.iter().any(&mut found) {
                    return true;
                }
            }
        }
        false
    }

    fn index(&self) -> Arc<Index> {
        let revisions = TABLES.map(|table| self.cache.table(table).newest());
        let current = Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner));
        if current.revisions == revisions {
            return current;
        }
        let built = Arc::new(self.build(revisions));
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&built);
        built
    }

    fn build(&self, revisions: [u64; 4]) -> Index {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = |bytes: &[u8]| serde_json::from_slice::<Role>(bytes).ok().map(|role| role.rules);
        let binding = |bytes: &[u8]| serde_json::from_slice::<Binding>(bytes).ok();
        self.refresh(TABLES[0], &mut objects.cluster_roles, rules);
        self.refresh(TABLES[1], &mut objects.roles, rules);
        self.refresh(TABLES[2], &mut objects.cluster_bindings, binding);
        self.refresh(TABLES[3], &mut objects.bindings, binding);
        let mut grants: HashMap<Who, Vec<Grant>> = HashMap::new();
        let all = objects.cluster_bindings.iter().map(|(_, (_, binding))| ("", binding));
        let all = all.chain(
            objects
                .bindings
                .iter()
                .map(|(path, (_, binding))| (path.split_once('/').map_or("", |(ns, _)| ns), binding)),
        );
        for (namespace, binding) in all {
            let role = &binding.role_ref;
            let rules = match role.kind.as_str() {
                "ClusterRole" => objects.cluster_roles.get(role.name.as_str()),
                _ => objects.roles.get(format!("{namespace}/{}", role.name).as_str()),
            };
            let Some((_, rules)) = rules else { continue };
            for subject in binding.subjects.iter().flatten() {
                let grant = Grant { namespace: namespace.to_owned(), rules: Arc::clone(rules) };
                grants.entry(who(subject, namespace)).or_default().push(grant);
            }
        }
        Index { revisions, grants }
    }

    fn refresh<T>(&self, table: &str, parsed: &mut Parsed<T>, parse: impl Fn(&[u8]) -> Option<T>) {
        let objects = self.cache.snapshot(table).objects;
        parsed.retain(|path, (revision, _)| objects.get(path).is_some_and(|entry| entry.revision == *revision));
        for (path, entry) in &objects {
            if !parsed.contains_key(path)
                && let Some(object) = parse(&entry.value)
            {
                parsed.insert(Arc::clone(path), (entry.revision, Arc::new(object)));
            }
        }
    }
}

fn who(subject: &Subject, binding_namespace: &str) -> Who {
    match subject.kind.as_str() {
        "Group" => Who::Group(subject.name.clone()),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().unwrap_or(binding_namespace);
            Who::User(format!("system:serviceaccount:{namespace}:{}", subject.name))
        }
        _ => Who::User(subject.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Object, Rule};

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(rule: (&str, &str, &str, &str), asked: (&str, &str, &str, &str), allowed: bool) {
        let rule = Rule {
            verbs: list(rule.0),
            api_groups: rule.1.split(',').map(str::to_owned).collect(),
            resources: list(rule.2),
            resource_names: list(rule.3),
            non_resource_urls: Vec::new(),
        };
        let (resource, subresource) = asked.2.split_once('/').unwrap_or((asked.2, ""));
        let object = Object::Resource { group: asked.1, resource, subresource, namespace: "n", name: asked.3 };
        assert_eq!(rule.allows(asked.0, &object), allowed, "{rule:?} on {asked:?}");
    }

    #[test]
    fn a_rule_matches_verb_group_resource_and_name() {
        check(("get list", "", "pods", ""), ("get", "", "pods", "a"), true);
        check(("get list", "", "pods", ""), ("delete", "", "pods", "a"), false);
        check(("*", "*", "*", ""), ("delete", "apps", "deployments/scale", "a"), true);
        check(("get", "", "pods", ""), ("get", "", "pods/log", "a"), false);
        check(("get", "", "pods/log", ""), ("get", "", "pods/log", "a"), true);
        check(("get", "", "*/scale", ""), ("get", "", "anything/scale", "a"), true);
        check(("get", "apps", "pods", ""), ("get", "", "pods", "a"), false);
        check(("get", "", "pods", "a b"), ("get", "", "pods", "b"), true);
        check(("get", "", "pods", "a b"), ("get", "", "pods", ""), false);
    }

    #[test]
    fn paths_match_whole_or_by_prefix() {
        let rule = Rule { verbs: list("get"), non_resource_urls: list("/healthz /api/*"), ..Rule::default() };
        assert!(rule.allows("get", &Object::Path("/healthz")));
        assert!(rule.allows("get", &Object::Path("/api/v1")));
        assert!(!rule.allows("get", &Object::Path("/api")));
        assert!(!rule.allows("post", &Object::Path("/healthz")));
    }
}
