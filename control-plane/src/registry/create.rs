//! create: POST, and PUT where it may create.
use api::path;
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;

use super::{Outcome, Registry, Target, context, failed, metadata, path_of};
use crate::storage::{Error, Expect, Key};
use crate::{admission, authz, serve};

/// Tries of a generated name before giving up, as upstream.
const TRIES: u32 = 8;

impl Registry {
    /// Stores a new object, given in the version of the target's row.
    ///
    /// # Errors
    /// Any refusal; 409 when the name is taken.
    pub async fn create(&self, target: &Target<'_>, object: Value, dry_run: bool) -> Result<Outcome, Status> {
        for _ in 1..TRIES {
            let mut attempt = object.clone();
            let generated = metadata::generate_name(&mut attempt);
            match self.try_create(target, attempt, dry_run).await {
                Err(status) if generated && status.reason == "AlreadyExists" => {}
                result => return result,
            }
        }
        let base = path::str(&object, "metadata.generateName");
        Err(Status::generate_name_conflict(target.row, base, 1))
    }

    async fn try_create(&self, target: &Target<'_>, object: Value, dry_run: bool) -> Result<Outcome, Status> {
        let row = target.row.storage_row();
        let mut object = api::convert::to_storage(target.row, object);
        metadata::prepare_new(target, &mut object)?;
        set_type(row, &mut object);
        let name = path::str(&object, "metadata.name").to_owned();
        let target = &Target { name: &name, ..*target };
        api::registry::default(row, &mut object);
        let context = context(target);
        // Every service write holds this until it is stored, so that no two get one address.
        let mut allocation = self.allocators.begin(row, &target.path()).await;
        admission::create(self, target, &mut object).await?;
        api::registry::prepare_create(&context, &mut object);
        let mut errors = Vec::new();
        if let Some(allocation) = &mut allocation {
            errors = allocation.assign(&mut object, None);
        }
        if errors.is_empty() {
            errors = api::registry::validate_create(&context, &object);
        }
        if !errors.is_empty() {
            return Err(Status::invalid(row, &name, errors));
        }
        authz::check_escalation(&self.rbac, target.user, row, &object)?;
        let path = path_of(target.namespace, &name);
        if dry_run && self.cache.get(row.storage_key, &path).is_some() {
            return Err(Status::already_exists(target.row, &name));
        }
        let value = Bytes::from(serve::to_stored(&object));
        if dry_run {
            return Ok(Outcome { value, revision: None, deleted: false, created: true });
        }
        let key = Key::new(row.storage_key, &path);
        match self.cache.put(key, value.clone(), Expect::Absent, self.ttl(row)).await {
            Ok(revision) => {
                if let Some(allocation) = &mut allocation {
                    allocation.commit(Some(&object));
                }
                Ok(Outcome { value, revision: Some(revision), deleted: false, created: true })
            }
            Err(Error::Mismatch { .. }) => Err(Status::already_exists(target.row, &name)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Stored objects say the storage version.
pub(super) fn set_type(row: &api::schema::Row, object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), row.api_version().into());
        object.insert("kind".to_owned(), row.kind.into());
    }
}
