//! The kind table: which resources are served, under which names, with which verbs, and where they are stored.
//!
//! Parsed once from `schema/resources.tsv` (facts of Kubernetes 1.36, only what is on by default). The few rows whose
//! storage key or storage version differ from the rule are named in [`storage_of`]. A custom resource is one more [`Row`]:
//! its strings are leaked once (`Box::leak`), because a row lives as long as the server knows the resource.

pub mod shape;
mod zero;

use std::{collections::HashMap, fmt, sync::OnceLock};

use crate::status::{GroupKind, GroupResource};

/// Whether objects of a resource live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Objects live in a namespace.
    Namespaced,
    /// One set of objects for the whole cluster.
    Cluster,
}

/// A verb of the API, as RBAC and discovery spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the verbs' own names")]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// All verbs, in the order of discovery.
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// The verb's name: `deletecollection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// All eight verbs: what a custom resource has.
    pub const ALL: Verbs = Verbs(0xff);

    /// Parses `create,get,…`; an unknown verb is left out.
    pub fn parse(text: &str) -> Verbs {
        let known = |name: &str| Verb::ALL.iter().find(|v| v.as_str() == name);
        Verbs(text.split(',').filter_map(known).fold(0, |set, v| set | 1 << *v as u8))
    }

    /// Whether the set has this verb.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u8) != 0
    }

    /// Whether the set has the verb of this name.
    pub fn contains(self, name: &str) -> bool {
        self.iter().any(|v| v.as_str() == name)
    }

    /// The verbs, in the order of discovery.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |v| self.has(*v))
    }

    /// The verbs' names, in the order of discovery.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Verb::as_str).collect()
    }
}

/// A subresource: `status`, `scale`, `log` …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// Last segment of the path.
    pub name: &'static str,
    /// Group of the kind that is read and written there.
    pub group: &'static str,
    /// Version of that kind.
    pub version: &'static str,
    /// The kind that is read and written there.
    pub kind: &'static str,
    /// What may be done with it.
    pub verbs: Verbs,
}

/// A resource in one version.
#[derive(Debug, Clone)]
pub struct Row {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// Plural name, as in the path.
    pub resource: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Singular name, for kubectl.
    pub singular: &'static str,
    /// Namespaced or not.
    pub scope: Scope,
    /// kubectl's short names.
    pub short_names: Vec<&'static str>,
    /// kubectl's categories (`all`).
    pub categories: Vec<&'static str>,
    /// What may be done with the resource itself.
    pub verbs: Verbs,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// Whether this version is served.
    pub served: bool,
    /// First part of the storage key below `/registry/`: `pods`, `services/specs`, `minions`.
    pub storage_key: &'static str,
    /// Group and version that the object is stored in.
    pub storage: (&'static str, &'static str),
    /// Key of the object's type in the type table; empty for a custom resource.
    pub type_name: &'static str,
}

impl Row {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// Key of the object's type in the type table (`io.k8s.api.core.v1.Pod`).
    pub fn type_name(&self) -> &str {
        self.type_name
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether the resource has a status subresource.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Group and plural name, as error messages print it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.resource)
    }

    /// Group and kind, as error messages print it.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group, self.kind)
    }

    /// Kind of a list of these objects.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The row that the objects are stored in: itself, but for the few resources that are served in two forms.
    pub fn storage_row(&self) -> &Row {
        if self.storage == (self.group, self.version) {
            return self;
        }
        row(self.storage.0, self.storage.1, self.resource).unwrap_or(self)
    }
}

/// All built-in rows that are served.
pub fn rows() -> &'static [Row] {
    &table().rows
}

/// The row of a plural name.
pub fn row(group: &str, version: &str, resource: &str) -> Option<&'static Row> {
    let table = table();
    table.by_resource.get(&(group, version, resource)).map(|i| &table.rows[*i])
}

/// The row of a kind.
pub fn row_of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Row> {
    let table = table();
    table.by_kind.get(&(group, version, kind)).map(|i| &table.rows[*i])
}

/// The row of an object's `apiVersion` and `kind`.
pub fn row_of(api_version: &str, kind: &str) -> Option<&'static Row> {
    let (group, version) = split_api_version(api_version);
    row_of_kind(group, version, kind)
}

/// Group and served versions, preferred version first, in the order of discovery; the core group is `""`.
pub fn groups() -> &'static [(&'static str, Vec<&'static str>)] {
    &table().groups
}

/// `v1` of `("", "v1")`, `apps/v1` of `("apps", "v1")`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `("", "v1")` of `v1`, `("apps", "v1")` of `apps/v1`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

struct Table {
    rows: Vec<Row>,
    by_resource: HashMap<(&'static str, &'static str, &'static str), usize>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), usize>,
    groups: Vec<(&'static str, Vec<&'static str>)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("../schema/resources.tsv");
        let rows: Vec<Row> = text.lines().skip(1).map(parse_row).collect();
        let by_resource = rows.iter().enumerate().map(|(i, r)| ((r.group, r.version, r.resource), i)).collect();
        let by_kind = rows.iter().enumerate().map(|(i, r)| ((r.group, r.version, r.kind), i)).collect();
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &rows {
            match groups.iter_mut().find(|(g, _)| *g == row.group) {
                Some((_, versions)) if versions.contains(&row.version) => {}
                Some((_, versions)) => versions.push(row.version),
                None => groups.push((row.group, vec![row.version])),
            }
        }
        Table { rows, by_resource, by_kind, groups }
    })
}

/// One line of `resources.tsv`: group, version, plural, kind, singular, scope, short names, categories, verbs, subresources.
fn parse_row(line: &'static str) -> Row {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [group, version, resource, kind, singular, scope, short, categories, verbs, subresources] = columns[..] else {
        panic!("schema/resources.tsv: ten columns, not {}: {line}", columns.len());
    };
    let (storage_key, storage) = storage_of(group, version, resource);
    Row {
        group,
        version,
        resource,
        kind,
        singular,
        scope: if scope == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        short_names: list(short),
        categories: list(categories),
        verbs: Verbs::parse(verbs),
        subresources: subresources
            .split(';')
            .filter(|s| !s.is_empty())
            .map(|s| parse_subresource(group, version, s))
            .collect(),
        served: true,
        storage_key,
        storage,
        type_name: shape::type_of_kind(group, version, kind).map_or("", |t| t.name),
    }
}

/// `scale=autoscaling/v1.Scale:get,patch,update`; group and version are there only where they differ from the resource's.
fn parse_subresource(group: &'static str, version: &'static str, text: &'static str) -> Subresource {
    let (name, rest) = text.split_once('=').expect("schema/resources.tsv: a subresource is name=kind:verbs");
    let (kind, verbs) = rest.split_once(':').expect("schema/resources.tsv: a subresource has verbs");
    let ((group, version), kind) = match kind.rsplit_once('.') {
        Some((gv, kind)) => (split_api_version(gv), kind),
        None => ((group, version), kind),
    };
    Subresource { name, group, version, kind, verbs: Verbs::parse(verbs) }
}

fn list(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|s| !s.is_empty()).collect()
}

/// Storage key and storage version: by rule the plural name and the served version; here are the exceptions.
fn storage_of(
    group: &'static str,
    version: &'static str,
    resource: &'static str,
) -> (&'static str, (&'static str, &'static str)) {
    match (group, resource) {
        ("", "services") => ("services/specs", ("", "v1")),
        ("", "endpoints") => ("services/endpoints", ("", "v1")),
        ("", "nodes") => ("minions", ("", "v1")),
        ("", "replicationcontrollers") => ("controllers", ("", "v1")),
        ("networking.k8s.io", "ingresses") => ("ingress", (group, "v1")),
        ("apiextensions.k8s.io", _) => ("apiextensions.k8s.io/customresourcedefinitions", (group, "v1")),
        ("apiregistration.k8s.io", _) => ("apiregistration.k8s.io/apiservices", (group, "v1")),
        ("events.k8s.io", "events") => ("events", ("", "v1")),
        ("autoscaling", "horizontalpodautoscalers") => ("horizontalpodautoscalers", (group, "v2")),
        _ => (resource, (group, version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_type() {
        for row in rows() {
            assert!(!row.type_name.is_empty(), "{} {}", row.api_version(), row.kind);
            assert!(shape::lookup(row.type_name).is_some());
        }
    }

    #[test]
    fn rows_are_found_by_plural_and_by_kind() {
        let pod = row("", "v1", "pods").unwrap();
        assert_eq!((pod.kind, pod.storage_key, pod.type_name()), ("Pod", "pods", "io.k8s.api.core.v1.Pod"));
        assert!(pod.has_status() && pod.namespaced() && pod.verbs.contains("watch"));
        assert_eq!(
            pod.subresource("eviction").map(|s| (s.group, s.version, s.kind)),
            Some(("policy", "v1", "Eviction"))
        );
        assert_eq!(row_of("apps/v1", "Deployment").unwrap().resource, "deployments");
        assert!(row("", "v1", "nothing").is_none());
    }

    #[test]
    fn storage_differs_where_it_must() {
        #[track_caller]
        fn check(group: &str, version: &str, resource: &str, key: &str, storage: (&str, &str)) {
            let row = row(group, version, resource).unwrap();
            assert_eq!((row.storage_key, row.storage), (key, storage));
        }
        check("", "v1", "services", "services/specs", ("", "v1"));
        check("", "v1", "nodes", "minions", ("", "v1"));
        check("apps", "v1", "deployments", "deployments", ("apps", "v1"));
        check("events.k8s.io", "v1", "events", "events", ("", "v1"));
        check("autoscaling", "v1", "horizontalpodautoscalers", "horizontalpodautoscalers", ("autoscaling", "v2"));
    }
}
