//! Who may do what: RBAC over the objects in memory, with `system:masters` above it.
//!
//! Second step of every request. The answer is a refusal in upstream's words, since kubectl prints it.
use api::status::Status;

use crate::authn::{MASTERS, User};

mod escalation;
mod rbac;

pub use escalation::check as check_escalation;
pub use rbac::{Rbac, Rule};

/// A question to the authorizer.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub user: &'a User,
    /// `get`, `list`, …; for a path the method in lower case.
    pub verb: &'a str,
    /// On what.
    pub object: Object<'a>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    /// A resource of the API.
    Resource {
        /// API group.
        group: &'a str,
        /// Plural name.
        resource: &'a str,
        /// Empty, or the subresource.
        subresource: &'a str,
        /// Empty for the whole cluster.
        namespace: &'a str,
        /// Empty for all.
        name: &'a str,
    },
    /// Any other path.
    Path(&'a str),
}

/// Answers with 403 unless the question's answer is yes.
///
/// # Errors
/// The refusal.
pub fn authorize(rbac: &Rbac, question: &Question<'_>) -> Result<(), Status> {
    if allowed(rbac, question) { Ok(()) } else { Err(refusal(question)) }
}

/// Whether the user may.
pub fn allowed(rbac: &Rbac, question: &Question<'_>) -> bool {
    question.user.is_in(MASTERS) || rbac.allows(question)
}

fn refusal(question: &Question<'_>) -> Status {
    let user = api::status::quote(&question.user.name);
    let verb = question.verb;
    match question.object {
        Object::Path(path) => {
            Status::forbidden("", "", format!("User {user} cannot {verb} path {}", api::status::quote(path)))
        }
        Object::Resource { group, resource, subresource, namespace, name } => {
            let full = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {}", api::status::quote(namespace))
            };
            let text = format!("User {user} cannot {verb} resource \"{full}\" in API group \"{group}\" {place}");
            Status::forbidden((group, resource), name, text)
        }
    }
}
