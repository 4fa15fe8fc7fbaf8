//! What is in volumes that take their content from the API: configMap, secret, downwardAPI and projected.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use kube::api::{Api, PostParams};

use super::Cause;
use super::atomic::{File, Payload};
use crate::context::Node;
use crate::env::{self, Sources};
use crate::limits;

/// The kubelet's default for modes.
const DEFAULT_MODE: i32 = 0o644;
/// A token this old is replaced whatever its lifetime.
const TOKEN_AGE: SignedDuration = SignedDuration::from_hours(24);

/// Tokens that this pod was given, with the time to ask for the next.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: HashMap<(String, String), (String, Timestamp)>,
}

/// The directory of a volume's kind, if its content is from the API.
pub(super) fn kind(volume: &Volume) -> Option<&'static str> {
    let kinds = [
        (volume.config_map.is_some(), "kubernetes.io~configmap"),
        (volume.secret.is_some(), "kubernetes.io~secret"),
        (volume.downward_api.is_some(), "kubernetes.io~downward-api"),
        (volume.projected.is_some(), "kubernetes.io~projected"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, kind)| kind)
}

/// A volume's files.
pub(super) async fn payload(
    node: &Node,
    pod: &Pod,
    volume: &Volume,
    ips: &[IpAddr],
    tokens: &mut Tokens,
) -> Result<Payload, Cause> {
    let mut payload = Payload::new();
    let at = Target { node, pod, ips };
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        at.config_map(&source.name, source.items.as_deref(), source.optional, mode, &mut payload).await?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        at.secret(
            &name,
            source.items.as_deref(),
            source.optional,
            source.default_mode.unwrap_or(DEFAULT_MODE),
            &mut payload,
        )
        .await?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        at.downward(source.items.as_deref().unwrap_or_default(), mode, &mut payload)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            at.projection(projection, &volume.name, mode, tokens, &mut payload).await?;
        }
    }
    Ok(payload)
}

/// Which pod a volume is for.
struct Target<'a> {
    node: &'a Node,
    pod: &'a Pod,
    ips: &'a [IpAddr],
}

impl Target<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    async fn projection(
        &self,
        source: &VolumeProjection,
        volume: &str,
        mode: i32,
        tokens: &mut Tokens,
        payload: &mut Payload,
    ) -> Result<(), Cause> {
        if let Some(map) = &source.config_map {
            self.config_map(&map.name, map.items.as_deref(), map.optional, mode, payload).await?;
        }
        if let Some(secret) = &source.secret {
            self.secret(&secret.name, secret.items.as_deref(), secret.optional, mode, payload).await?;
        }
        if let Some(downward) = &source.downward_api {
            self.downward(downward.items.as_deref().unwrap_or_default(), mode, payload)?;
        }
        if let Some(token) = &source.service_account_token {
            let content = self.token(volume, token, tokens).await?.into_bytes();
            payload.insert(token.path.clone(), File { content, mode: mode.cast_unsigned() });
        }
        Ok(())
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
        payload: &mut Payload,
    ) -> Result<(), Cause> {
        let map = Api::<ConfigMap>::namespaced(self.node.client.clone(), self.namespace()).get_opt(name).await?;
        let Some(map) = found(map, "configmap", name, optional)? else { return Ok(()) };
        let texts = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
        let bytes = map.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0));
        select(texts.chain(bytes).collect(), items, optional, mode, "configmap", payload)
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        mode: i32,
        payload: &mut Payload,
    ) -> Result<(), Cause> {
        let secret = Api::<Secret>::namespaced(self.node.client.clone(), self.namespace()).get_opt(name).await?;
        let Some(secret) = found(secret, "secret", name, optional)? else { return Ok(()) };
        select(
            secret.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect(),
            items,
            optional,
            mode,
            "secret",
            payload,
        )
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32, payload: &mut Payload) -> Result<(), Cause> {
        let sources =
            Sources { pod_ips: self.ips.to_vec(), host_ips: self.node.ips.iter().collect(), ..Sources::default() };
        for item in items {
            let content = if let Some(field) = &item.field_ref {
                env::pod_field(self.pod, &field.field_path, &sources)?
            } else if let Some(reference) = &item.resource_field_ref {
                let name = reference.container_name.as_deref().unwrap_or_default();
                let container = self.pod.spec.iter().flat_map(|spec| &spec.containers).find(|one| one.name == name);
                let divisor = reference.divisor.as_ref().map(|divisor| divisor.0.as_str());
                let value =
                    container.and_then(|one| limits::field(one, &reference.resource, divisor, self.node.allocatable));
                value.ok_or_else(|| env::Error::Resource { resource: reference.resource.clone() })?
            } else {
                continue;
            };
            payload.insert(
                item.path.clone(),
                File { content: content.into_bytes(), mode: item.mode.unwrap_or(mode).cast_unsigned() },
            );
        }
        Ok(())
    }

    /// The held token while it is fresh, else a new one. It is bound to the pod: it ends with it.
    async fn token(
        &self,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        tokens: &mut Tokens,
    ) -> Result<String, Cause> {
        let (key, now) = ((volume.to_owned(), source.path.clone()), Timestamp::now());
        if let Some((token, refresh)) = tokens.held.get(&key)
            && *refresh > now
        {
            return Ok(token.clone());
        }
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned());
        let request = token_request(self.pod, source);
        let api = Api::<ServiceAccount>::namespaced(self.node.client.clone(), self.namespace());
        let answer: TokenRequest = api.create_subresource("token", &account, &PostParams::default(), &request).await?;
        let status = answer.status.unwrap_or_default();
        let life = status.expiration_timestamp.map_or(SignedDuration::ZERO, |end| end.0.duration_since(now));
        let token = status.token.unwrap_or_default();
        tokens.held.insert(key, (token.clone(), now + refresh_after(life)));
        Ok(token)
    }
}

/// A token is replaced after four fifths of its life, and after a day.
fn refresh_after(life: SignedDuration) -> SignedDuration {
    (life * 4 / 5).min(TOKEN_AGE).max(SignedDuration::from_secs(60))
}

fn token_request(pod: &Pod, source: &ServiceAccountTokenProjection) -> TokenRequest {
    let audience = source.audience.clone().filter(|audience| !audience.is_empty());
    TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience.map(|audience| vec![audience]),
            expiration_seconds: source.expiration_seconds.or(Some(3600)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    }
}

fn found<T>(object: Option<T>, kind: &'static str, name: &str, optional: Option<bool>) -> Result<Option<T>, Cause> {
    match object {
        None if optional != Some(true) => Err(env::Error::NotFound { kind, name: name.to_owned() }.into()),
        other => Ok(other),
    }
}

/// All keys as files, or those that `items` name at the paths that they name.
fn select(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    kind: &'static str,
    payload: &mut Payload,
) -> Result<(), Cause> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        payload.extend(data.into_iter().map(|(key, content)| (key, File { content, mode: mode.cast_unsigned() })));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                let mode = item.mode.unwrap_or(mode).cast_unsigned();
                payload.insert(item.path.clone(), File { content: content.clone(), mode });
            }
            None if optional == Some(true) => {}
            None => {
                return Err(Cause::NoKey {
                    kind,
                    kind_of_key: if kind == "secret" { "secret" } else { "config" },
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(items: serde_json::Value, optional: Option<bool>, expected: Result<&[(&str, &str, u32)], &str>) {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let items: Vec<KeyToPath> = serde_json::from_value(items).expect("items");
        let mut payload = Payload::new();
        let result = select(data, Some(&items), optional, 0o644, "configmap", &mut payload);
        match (result, expected) {
            (Ok(()), Ok(expected)) => {
                let found: Vec<(String, String, u32)> = payload
                    .into_iter()
                    .map(|(path, file)| (path, String::from_utf8(file.content).expect("text"), file.mode))
                    .collect();
                assert_eq!(
                    found,
                    expected
                        .iter()
                        .map(|(path, text, mode)| (path.to_string(), text.to_string(), *mode))
                        .collect::<Vec<_>>()
                );
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn keys_to_paths() {
        check(serde_json::json!([]), None, Ok(&[("a", "1", 0o644), ("b", "2", 0o644)]));
        check(serde_json::json!([{"key": "b", "path": "x/y", "mode": 256}]), None, Ok(&[("x/y", "2", 0o400)]));
        check(serde_json::json!([{"key": "no", "path": "x"}]), Some(true), Ok(&[]));
        check(
            serde_json::json!([{"key": "no", "path": "x"}]),
            None,
            Err("configmap references non-existent config key: no"),
        );
    }

    #[test]
    fn tokens_are_replaced_in_time() {
        let cases = [(3600, 2880), (10, 60), (1_000_000, 86_400)];
        for (life, refresh) in cases {
            assert_eq!(refresh_after(SignedDuration::from_secs(life)).as_secs(), refresh);
        }
    }
}
