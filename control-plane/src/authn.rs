//! Who asks: client certificates, service-account tokens, impersonation; else `system:anonymous`.
//!
//! First step of every request, before `authz`. A credential that is shown and wrong is refused here (401); showing none
//! is not an error, and what an anonymous user may do is decided like anybody else's.
use std::collections::BTreeMap;
use std::sync::Arc;

use api::status::Status;
use http::HeaderMap;
use serde_json::{Value, json};

mod certificate;
mod token;

pub use certificate::user_of as user_of_certificate;
pub use token::{Bound, Grant, Tokens};

/// Everybody who showed a valid credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// May do everything, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

/// Somebody, as authorization and admission see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Empty, or the service account's.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the credential says.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user that shows no credential.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// A part of this process, for which everything is allowed.
    pub fn internal(name: &str) -> Self {
        let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// A service account by its name.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect(),
            ..Self::default()
        }
    }

    /// Whether the user is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    /// `authentication.k8s.io` UserInfo.
    pub fn to_value(&self) -> Value {
        let mut value = json!({"username": self.name});
        if !self.uid.is_empty() {
            value["uid"] = json!(self.uid);
        }
        if !self.groups.is_empty() {
            value["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            value["extra"] = json!(self.extra);
        }
        value
    }
}

/// Finds the user of a request: the connection's certificate first, then a bearer token.
///
/// # Errors
/// 401 for a token that does not hold.
pub fn authenticate(tokens: &Tokens, peer: Option<&Arc<User>>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    if let Some(user) = peer {
        return Ok(Arc::clone(user));
    }
    let Some(value) = headers.get(http::header::AUTHORIZATION) else {
        return Ok(Arc::new(User::anonymous()));
    };
    let text = value.to_str().map_err(|_not_text| Status::unauthorized())?;
    let Some((scheme, token)) = text.split_once(' ') else { return Ok(Arc::new(User::anonymous())) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Arc::new(User::anonymous()));
    }
    match tokens.verify(token.trim(), &[tokens.issuer()]) {
        Ok(bound) => Ok(Arc::new(bound.user())),
        Err(reason) => {
            tracing::debug!(%reason, "a token was refused");
            Err(Status::unauthorized())
        }
    }
}

/// What a request asks to be instead: `Impersonate-*` headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    /// The user wanted; the caller still has to be allowed each part of it.
    pub user: User,
}

impl Impersonation {
    /// Reads the headers; `None` when there are none.
    ///
    /// # Errors
    /// 400 when groups or extras are given without a user.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let all = headers.iter().filter_map(|(name, value)| {
            let rest = name.as_str().strip_prefix("impersonate-extra-")?;
            Some((rest.replace("%2f", "/").replace("%2F", "/"), value.to_str().ok()?.to_owned()))
        });
        let mut user = User {
            name: text("impersonate-user").to_owned(),
            uid: text("impersonate-uid").to_owned(),
            ..User::default()
        };
        for (key, value) in all {
            user.extra.entry(key).or_default().push(value);
        }
        let groups = headers.get_all("impersonate-group").iter();
        user.groups = groups.filter_map(|group| Some(group.to_str().ok()?.to_owned())).collect();
        if user.name.is_empty() {
            let nothing = user == User::default();
            return if nothing {
                Ok(None)
            } else {
                Err(Status::bad_request("requested impersonation of groups, uid or extra without impersonating a user"))
            };
        }
        Ok(Some(Self { user: complete(user) }))
    }
}

/// A service account gets its groups, and everybody named gets `system:authenticated`.
fn complete(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, name)) = split_service_account(&user.name)
    {
        user.groups = User::service_account(namespace, name).groups;
    }
    let known = if user.name == User::anonymous().name { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(known) {
        user.groups.push(known.to_owned());
    }
    user
}

/// `system:serviceaccount:<namespace>:<name>` in its parts.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::Impersonation;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], expected: Result<Option<(&str, &[&str])>, u16>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        let found = Impersonation::of(&map).map_err(|status| status.code);
        let found = found.as_ref().map_err(|code| *code).map(|asked| {
            asked
                .as_ref()
                .map(|asked| (asked.user.name.as_str(), asked.user.groups.iter().map(String::as_str).collect()))
        });
        let expected = expected.map(|asked| asked.map(|(name, groups)| (name, groups.to_vec())));
        assert_eq!(found, expected);
    }

    #[test]
    fn headers_become_a_user() {
        check(&[], Ok(None));
        check(&[("impersonate-user", "jane")], Ok(Some(("jane", &["system:authenticated"]))));
        check(
            &[("impersonate-user", "system:serviceaccount:a:b")],
            Ok(Some((
                "system:serviceaccount:a:b",
                &["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"],
            ))),
        );
        check(
            &[("impersonate-user", "jane"), ("impersonate-group", "g")],
            Ok(Some(("jane", &["g", "system:authenticated"]))),
        );
        check(&[("impersonate-group", "g")], Err(400));
    }
}
