//! update and patch: one loop of read, change, check, compare-and-swap.
use api::path;
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;

use super::create::set_type;
use super::{Outcome, Registry, Target, context, failed, metadata};
use crate::allocators::Allocation;
use crate::storage::cache::Entry;
use crate::storage::{Error, Expect};
use crate::{admission, authz, serve};

/// What must hold of the object as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its resourceVersion.
    pub resource_version: Option<String>,
}

impl Preconditions {
    /// Checks them.
    ///
    /// # Errors
    /// 409 in upstream's words.
    pub fn check(&self, target: &Target<'_>, object: &Value) -> Result<(), Status> {
        let conflict = |short: &str, wanted: &str, found: &str| {
            let text =
                format!("Precondition failed: {short} in precondition: {wanted}, {short} in object meta: {found}");
            Err(Status::conflict(target.row, target.name, text))
        };
        for (name, short, wanted) in
            [("uid", "UID", &self.uid), ("resourceVersion", "ResourceVersion", &self.resource_version)]
        {
            let found = path::str(path::get(object, "metadata"), name);
            if let Some(wanted) = wanted.as_deref().filter(|&wanted| wanted != found) {
                return conflict(short, wanted, found);
            }
        }
        Ok(())
    }
}

impl Registry {
    /// Replaces an object by what `change` makes of it, both in the version of the target's row. `change` runs again
    /// when somebody else was faster.
    ///
    /// # Errors
    /// Any refusal, those of `change` too.
    pub async fn update(
        &self,
        target: &Target<'_>,
        preconditions: &Preconditions,
        dry_run: bool,
        mut change: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Outcome, Status> {
        let row = target.row.storage_row();
        loop {
            let mut allocation = self.allocators.begin(row, &target.path()).await;
            let entry = self.entry(target)?;
            let old = serve::parse(&entry.value, entry.revision);
            preconditions.check(target, &old)?;
            let changed = change(&api::convert::from_storage(target.row, old.clone()))?;
            let mut new = api::convert::to_storage(target.row, changed);
            self.prepare(target, &mut new, &old, allocation.as_mut())?;
            if let Some(outcome) = self.replace(target, &entry, &old, &new, dry_run).await? {
                if let (Some(allocation), false) = (&mut allocation, dry_run) {
                    allocation.commit(Some(&new).filter(|_| !outcome.deleted));
                }
                return Ok(outcome);
            }
        }
    }

    /// Stores `new` in place of `entry`; `None` when somebody was faster.
    async fn replace(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        old: &Value,
        new: &Value,
        dry_run: bool,
    ) -> Result<Option<Outcome>, Status> {
        let row = target.row.storage_row();
        let value = Bytes::from(serve::to_stored(new));
        let unchanged =
            Outcome { value: entry.value.clone(), revision: Some(entry.revision), deleted: false, created: false };
        if value == entry.value || same(new, old) {
            return Ok(Some(unchanged));
        }
        let deleted = !path::str(old, "metadata.deletionTimestamp").is_empty() && metadata::is_released(row, new);
        if dry_run {
            return Ok(Some(Outcome { value, deleted, ..unchanged }));
        }
        let expect = Expect::Revision(entry.revision);
        let written = if deleted {
            self.cache.delete(target.key(), expect).await
        } else {
            self.cache.put(target.key(), value.clone(), expect, self.ttl(row)).await
        };
        match written {
            Ok(revision) => Ok(Some(Outcome { value, revision: Some(revision), deleted, created: false })),
            Err(Error::Mismatch { .. }) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Everything between what the client wants and what is stored.
    fn prepare(
        &self,
        target: &Target<'_>,
        new: &mut Value,
        old: &Value,
        allocation: Option<&mut Allocation>,
    ) -> Result<(), Status> {
        let row = target.row.storage_row();
        let context = context(target);
        metadata::prepare_update(target, new, old)?;
        set_type(row, new);
        if target.subresource == "finalize" {
            keep_only_finalizers(new, old);
        }
        api::registry::default(row, new);
        admission::update(self, target, new, old)?;
        api::registry::prepare_update(&context, new, old);
        let mut errors = Vec::new();
        // A write of the status leaves the spec alone, so there is nothing to give.
        if let Some(allocation) = allocation.filter(|_| target.subresource.is_empty()) {
            errors = allocation.assign(new, Some(old));
        }
        if errors.is_empty() {
            errors = api::registry::validate_update(&context, new, old);
        }
        if !errors.is_empty() {
            return Err(Status::invalid(row, target.name, errors));
        }
        authz::check_escalation(&self.rbac, target.user, row, new)
    }
}

/// `namespaces/finalize` changes only the finalizers.
fn keep_only_finalizers(new: &mut Value, old: &Value) {
    let finalizers = path::get(new, "spec.finalizers").clone();
    *new = old.clone();
    path::entry(new, "spec").insert("finalizers".to_owned(), finalizers);
}

/// Equal but for the revision, which `new` may not carry.
fn same(new: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        metadata::of(&mut value).shift_remove("resourceVersion");
        value
    };
    strip(new) == strip(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{keep_only_finalizers, same};

    #[test]
    fn the_revision_is_no_change() {
        assert!(same(
            &json!({"metadata": {"name": "a"}, "b": 1}),
            &json!({"b": 1, "metadata": {"resourceVersion": "3", "name": "a"}})
        ));
        assert!(!same(&json!({"metadata": {"name": "a"}, "b": 2}), &json!({"metadata": {"name": "a"}, "b": 1})));
    }

    #[test]
    fn finalize_keeps_the_rest() {
        let mut new = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"finalizers": []}});
        keep_only_finalizers(&mut new, &json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}));
        assert_eq!(new, json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}}));
    }
}
