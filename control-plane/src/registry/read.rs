//! get and list: from the copy in memory, at the revision that the client asks for.
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use api::select::{FieldSelector, LabelSelector};
use api::status::{Cause, FieldError, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Registry, Target, failed, path_of};
use crate::projection;
use crate::storage::Error;
use crate::storage::cache::{Entry, Objects};

/// How long a read waits for a revision that is not there yet.
const FUTURE: Duration = Duration::from_secs(3);

/// Labels and fields that a client asks for.
#[derive(Clone, Debug)]
pub struct Selection {
    /// `labelSelector`.
    pub labels: LabelSelector,
    /// `fieldSelector`.
    pub fields: FieldSelector,
}

impl Selection {
    /// Whether everything is asked for.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an object is, given what selectors look at.
    pub fn matches(&self, selectable: &Value) -> bool {
        self.labels.matches_object(selectable) && self.fields.matches(selectable)
    }
}

/// `metav1.ListOptions`, without those of a watch.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// 0 is all.
    pub limit: usize,
    /// `continue` of the page before.
    pub continue_token: String,
    /// `resourceVersion`.
    pub revision: String,
    /// `resourceVersionMatch`.
    pub revision_match: String,
}

/// An object of a page.
#[derive(Clone, Debug)]
pub struct Item {
    /// `namespace/name` or `name`.
    pub path: Arc<str>,
    /// The object.
    pub entry: Arc<Entry>,
}

/// A list, or a part of one.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects, in the order of their paths.
    pub items: Vec<Item>,
    /// The revision that all of it was read at.
    pub revision: u64,
    /// For the next page.
    pub continue_token: Option<String>,
    /// How many come after, when that is known.
    pub remaining: Option<u64>,
}

impl Page {
    /// `metav1.ListMeta`.
    pub fn meta(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            meta["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        meta
    }
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: u64,
    start: String,
}

impl Registry {
    /// One object.
    ///
    /// # Errors
    /// 404, or that `revision` is not there yet.
    pub async fn get(&self, target: &Target<'_>, revision: &str) -> Result<Arc<Entry>, Status> {
        self.reach(revision).await?;
        self.entry(target)
    }

    /// A list.
    ///
    /// # Errors
    /// 400 and 422 for options that do not go together, 410 for a revision that is gone.
    pub async fn list(&self, target: &Target<'_>, options: &ListOptions) -> Result<Page, Status> {
        let (at, start) = self.resolve(target, options).await?;
        let table = target.row.storage_key;
        let (objects, revision) = match at {
            Some(revision) => (self.objects_at(table, revision, &start)?, revision),
            None => {
                let snapshot = self.cache.snapshot(table);
                (snapshot.objects, snapshot.revision)
            }
        };
        Ok(page(target, options, &objects, revision, &start))
    }

    /// Waits for `resourceVersion`; unset is the newest of all, `0` is whatever there is.
    pub(super) async fn reach(&self, revision: &str) -> Result<(), Status> {
        match revision {
            "" => self.cache.catch_up().await.map_err(|error| failed(&error)),
            "0" => Ok(()),
            text => {
                let wanted = parse_revision(text)?;
                if tokio::time::timeout(FUTURE, self.cache.wait(wanted)).await.is_err() {
                    return Err(too_large(wanted, self.cache.applied()));
                }
                Ok(())
            }
        }
    }

    /// At which revision to read, if not at the newest, and after which path.
    async fn resolve(&self, target: &Target<'_>, options: &ListOptions) -> Result<(Option<u64>, String), Status> {
        check_options(target, options)?;
        if !options.continue_token.is_empty() {
            let token = decode_token(&options.continue_token)?;
            let at = (token.rv != 0).then_some(token.rv);
            if at.is_none() {
                self.reach("").await?;
            }
            return Ok((at, token.start));
        }
        self.reach(&options.revision).await?;
        let legacy_exact = options.revision_match.is_empty() && options.limit > 0;
        let exact = options.revision_match == "Exact" || legacy_exact;
        let at = match options.revision.as_str() {
            "" | "0" => None,
            text if exact => Some(parse_revision(text)?),
            _ => None,
        };
        Ok((at, String::new()))
    }

    fn objects_at(&self, table: &str, revision: u64, start: &str) -> Result<Objects, Status> {
        self.cache.snapshot_at(table, revision).map_err(|error| match error {
            Error::Compacted { .. } if start.is_empty() => expired(),
            Error::Compacted { .. } => {
                let text = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
                Status::gone_expired(text).with_continue(encode_token(0, start))
            }
            other => failed(&other),
        })
    }
}

/// 410 for a revision that is gone.
pub(super) fn expired() -> Status {
    Status::gone_expired("The resourceVersion for the provided list is too old.")
}

pub(super) fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_not_a_number| {
        let why = format!("strconv.ParseUint: parsing {}: invalid syntax", api::status::quote(text));
        let error = FieldError::invalid("resourceVersion", text, why);
        Status::bad_request(error.to_string())
    })
}

fn too_large(wanted: u64, current: u64) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1);
    let cause = Cause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        ..Cause::default()
    };
    status.details.get_or_insert_default().causes.push(cause);
    status
}

fn check_options(target: &Target<'_>, options: &ListOptions) -> Result<(), Status> {
    let mut errors = Vec::new();
    if !options.revision_match.is_empty() {
        let mut forbid = |text: &str| errors.push(FieldError::forbidden("resourceVersionMatch", text));
        match options.revision_match.as_str() {
            _ if !options.continue_token.is_empty() => {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            _ if options.revision.is_empty() => {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            "Exact" if options.revision == "0" => {
                forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            "Exact" | "NotOlderThan" => {}
            other => {
                errors.push(FieldError::not_supported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]));
            }
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(("meta.k8s.io", "ListOptions"), "", errors));
    }
    if !options.continue_token.is_empty() && !matches!(options.revision.as_str(), "" | "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let _ = target;
    Ok(())
}

fn encode_token(revision: u64, start: &str) -> String {
    let token = Token { v: "meta.k8s.io/v1".to_owned(), rv: revision, start: start.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("strings and numbers are JSON"))
}

fn decode_token(text: &str) -> Result<Token, Status> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let token: Option<Token> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    token.ok_or_else(|| Status::bad_request("continue key is not valid: it was not made by this server"))
}

fn page(target: &Target<'_>, options: &ListOptions, objects: &Objects, revision: u64, start: &str) -> Page {
    let selection = &options.selection;
    let mut page = Page { items: Vec::new(), revision, continue_token: None, remaining: None };
    if let Some(name) = selection.fields.name() {
        let path = path_of(target.namespace, name);
        if !(target.row.namespaced() && target.namespace.is_empty()) {
            let found = objects.get_key_value(path.as_str());
            page.items.extend(found.map(item).filter(|item| selects(selection, &item.entry)));
            return page;
        }
    }
    let (first, last) = bounds(target.namespace, start);
    let mut range = objects.range::<_, str>((first.as_ref().map(String::as_str), last.as_ref().map(String::as_str)));
    for found in range.by_ref() {
        if !selects(selection, found.1) {
            continue;
        }
        page.items.push(item(found));
        if options.limit > 0 && page.items.len() == options.limit {
            break;
        }
    }
    let rest = if options.limit > 0 && page.items.len() == options.limit { range.count() } else { 0 };
    if rest > 0 {
        let last = page.items.last().map_or("", |item| &item.path);
        page.continue_token = Some(encode_token(revision, last));
        page.remaining = selection.is_everything().then_some(rest as u64);
    }
    page
}

fn item((path, entry): (&Arc<str>, &Arc<Entry>)) -> Item {
    Item { path: Arc::clone(path), entry: Arc::clone(entry) }
}

/// Whether a stored object is selected.
pub(super) fn selects(selection: &Selection, entry: &Entry) -> bool {
    selection.is_everything() || selection.matches(&projection::selectable(&entry.value))
}

/// The paths of a namespace (of all, when it is empty) after `start`.
fn bounds(namespace: &str, start: &str) -> (Bound<String>, Bound<String>) {
    let last = match namespace {
        "" => Bound::Unbounded,
        namespace => Bound::Excluded(format!("{namespace}0")), // '0' follows '/'.
    };
    let first = match (start, namespace) {
        ("", "") => Bound::Unbounded,
        ("", namespace) => Bound::Included(format!("{namespace}/")),
        (start, _) => Bound::Excluded(start.to_owned()),
    };
    (first, last)
}

/// The selectable forms of an event's two sides, for the watches.
pub(super) fn selectable(entry: Option<&Arc<Entry>>) -> Option<Value> {
    entry.map(|entry| projection::selectable(&entry.value))
}

#[cfg(test)]
mod tests {
    use super::{Bound, bounds, decode_token, encode_token};

    #[test]
    fn tokens_come_back() {
        let token = decode_token(&encode_token(7, "ns/a")).expect("our own token");
        assert_eq!((token.rv, token.start.as_str()), (7, "ns/a"));
        assert_eq!(decode_token("nonsense").map_err(|status| status.code).err(), Some(400));
    }

    #[test]
    fn a_namespace_is_a_range() {
        assert_eq!(bounds("a", ""), (Bound::Included("a/".into()), Bound::Excluded("a0".into())));
        assert_eq!(bounds("a", "a/x"), (Bound::Excluded("a/x".into()), Bound::Excluded("a0".into())));
        assert_eq!(bounds("", ""), (Bound::Unbounded, Bound::Unbounded));
    }
}
