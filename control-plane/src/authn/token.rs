//! Service-account tokens: signed here, bound to a service account and to a pod, and valid only while both exist.
//!
//! ES256 with the key of `pki`. A signature is checked once per token; whether the objects still exist, every time.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::User;
use crate::pki::Authority;
use crate::storage::cache::Cache;

/// What tokens say in `iss`, and the audience of the API server itself.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Signatures remembered; past it all are forgotten.
const REMEMBERED: usize = 4096;

/// An object that a token names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Bound,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Bound>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who may be told.
    pub aud: Vec<String>,
    /// Seconds since 1970.
    pub exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

impl Grant {
    /// A token for a service account.
    pub fn new(namespace: &str, account: Bound, audiences: Vec<String>, seconds: i64) -> Self {
        let now = jiff::Timestamp::now().as_second();
        Self {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: ISSUER.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{}", account.name),
            private: Private {
                namespace: namespace.to_owned(),
                serviceaccount: account,
                pod: None,
                node: None,
                secret: None,
            },
        }
    }

    /// Binds it to a pod and to the pod's node.
    pub fn bind_pod(&mut self, pod: Bound, node: Option<Bound>) {
        self.private.pod = Some(pod);
        self.private.node = node;
    }

    /// Binds it to a secret.
    pub fn bind_secret(&mut self, secret: Bound) {
        self.private.secret = Some(secret);
    }

    /// The user that shows it.
    pub fn user(&self) -> User {
        let mut user = User::service_account(&self.private.namespace, &self.private.serviceaccount.name);
        user.uid.clone_from(&self.private.serviceaccount.uid);
        let mut extra = |key: &str, value: &str| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        extra("credential-id", &format!("JTI={}", self.jti));
        for (kind, bound) in [("pod", &self.private.pod), ("node", &self.private.node)] {
            if let Some(bound) = bound {
                extra(&format!("{kind}-name"), &bound.name);
                extra(&format!("{kind}-uid"), &bound.uid);
            }
        }
        user
    }
}

/// Why a token is refused; for the log and for TokenReview.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not a token of this cluster, or out of its time.
    #[error("invalid bearer token")]
    Signature(#[source] jsonwebtoken::errors::Error),
    /// It is for somebody else.
    #[error("invalid bearer token, token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// The token's.
        found: Vec<String>,
        /// The server's.
        wanted: Vec<String>,
    },
    /// What it is bound to is gone.
    #[error("invalid bearer token, {kind} has been invalidated")]
    Gone {
        /// What is gone.
        kind: &'static str,
    },
}

/// Signs and verifies.
pub struct Tokens {
    cache: Arc<Cache>,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    point: Vec<u8>,
    verified: Mutex<HashMap<[u8; 32], Arc<Grant>>>,
}

impl Tokens {
    /// With the authority's key; `cache` tells which objects exist.
    ///
    /// # Errors
    /// When the key is no P-256 key.
    pub fn new(authority: &Authority, cache: Arc<Cache>) -> Result<Self, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.validate_nbf = true;
        validation.validate_aud = false; // Against the asker's audiences, in `verify`.
        Ok(Self {
            cache,
            signing: EncodingKey::from_ec_pem(authority.token_key.as_bytes())?,
            verifying: DecodingKey::from_ec_pem(authority.token_public_key.as_bytes())?,
            validation,
            point: authority.token_point.clone(),
            verified: Mutex::default(),
        })
    }

    /// The audience of the API server.
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The public key as RFC 7517 has it, for who verifies tokens elsewhere.
    pub fn key_set(&self) -> Value {
        let (x, y) = self.point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id(), "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.point))
    }

    /// Signs.
    ///
    /// # Errors
    /// When the key cannot sign, which `new` has seen it can.
    pub fn sign(&self, grant: &Grant) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.key_id()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, grant, &self.signing)
    }

    /// Whether `token` holds now, for one of `audiences`.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, token: &str, audiences: &[&str]) -> Result<Arc<Grant>, Refused> {
        let grant = self.verified(token)?;
        if !grant.aud.iter().any(|audience| audiences.contains(&audience.as_str())) {
            let wanted = audiences.iter().map(|&audience| audience.to_owned()).collect();
            return Err(Refused::Audience { found: grant.aud.clone(), wanted });
        }
        let namespace = &grant.private.namespace;
        let alive = |table: &str, bound: &Bound| {
            let path = format!("{namespace}/{}", bound.name);
            self.cache.get(table, &path).is_some_and(|entry| uid_of(&entry.value).as_deref() == Some(&bound.uid))
        };
        if !alive("serviceaccounts", &grant.private.serviceaccount) {
            return Err(Refused::Gone { kind: "service account" });
        }
        if grant.private.pod.as_ref().is_some_and(|pod| !alive("pods", pod)) {
            return Err(Refused::Gone { kind: "pod" });
        }
        if grant.private.secret.as_ref().is_some_and(|secret| !alive("secrets", secret)) {
            return Err(Refused::Gone { kind: "secret" });
        }
        Ok(grant)
    }

    fn verified(&self, token: &str) -> Result<Arc<Grant>, Refused> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = jiff::Timestamp::now().as_second();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = verified.get(&digest).filter(|grant| grant.exp > now) {
            return Ok(Arc::clone(grant));
        }
        drop(verified);
        let decoded = jsonwebtoken::decode::<Grant>(token, &self.verifying, &self.validation);
        let grant = Arc::new(decoded.map_err(Refused::Signature)?.claims);
        verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, Arc::clone(&grant));
        Ok(grant)
    }
}

fn uid_of(object: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: String,
    }
    Some(serde_json::from_slice::<Object>(object).ok()?.metadata.uid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Bound, Grant, ISSUER, Tokens};
    use crate::pki::Authority;
    use crate::storage::cache::Cache;
    use crate::storage::memory::Memory;
    use crate::storage::{Expect, Key};

    #[tokio::test]
    async fn a_token_lives_as_long_as_its_account() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::open(directory.path()).expect("a new authority");
        let cache = Cache::start(Arc::new(Memory::default())).await.expect("an empty store");
        let tokens = Tokens::new(&authority, Arc::clone(&cache)).expect("the key is P-256");
        let account = Bound { name: "default".to_owned(), uid: "u1".to_owned() };
        let token = tokens.sign(&Grant::new("ns", account, vec![ISSUER.to_owned()], 600)).expect("a token");
        assert!(tokens.verify(&token, &[ISSUER]).is_err(), "there is no such account");
        let put = |uid: &str| {
            let object = format!(r#"{{"metadata":{{"name":"default","uid":"{uid}"}}}}"#);
            cache.put(Key::new("serviceaccounts", "ns/default"), Bytes::from(object), Expect::Any, None)
        };
        put("u1").await.expect("a write");
        let grant = tokens.verify(&token, &[ISSUER]).expect("the account is there");
        assert_eq!(grant.user().name, "system:serviceaccount:ns:default");
        assert!(tokens.verify(&token, &["elsewhere"]).is_err(), "it is for another audience");
        put("u2").await.expect("a write");
        assert!(tokens.verify(&token, &[ISSUER]).is_err(), "another account of the same name");
        let forged = format!("{}x", &token[..token.len() - 2]);
        assert!(tokens.verify(&forged, &[ISSUER]).is_err(), "the signature is wrong");
    }
}
