//! The pod's network, by executing CNI plugins as the specification says (1.1, section 4).
//!
//! The first `*.conflist` of the configuration directory by name is in force, read anew for each pod. What ADD was called
//! with and what it returned is the caller's to keep: DEL gets both back, even after the file has changed or the node has
//! been restarted. This knows no plugin by name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::runtime::{PodId, PortMapping};

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No conflist yet.
    #[error("cni plugin not initialized: no *.conflist in {}", dir.display())]
    NotInitialized {
        /// The configuration directory.
        dir: PathBuf,
    },
    /// A file of the configuration directory.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A conflist that is none.
    #[error("{} is not a network configuration list", path.display())]
    NotAConflist {
        /// Which.
        path: PathBuf,
    },
    /// The plugin's binary could not be executed.
    #[error("plugin type={plugin:?} cannot be executed from {}", path.display())]
    Exec {
        /// Its type.
        plugin: String,
        /// Its binary.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The plugin said no.
    #[error("plugin type={plugin:?} failed ({command}): {message}")]
    Plugin {
        /// Its type.
        plugin: String,
        /// `add` or `delete`.
        command: &'static str,
        /// Its own words, or what it printed.
        message: String,
    },
}

/// One pod's attachment to the network.
#[derive(Clone, Debug)]
pub(crate) struct Attachment<'a> {
    /// The sandbox's id.
    pub(crate) container_id: &'a str,
    /// The pinned network namespace; `None` if it is gone already.
    pub(crate) netns: Option<&'a Path>,
    /// The pod.
    pub(crate) pod: &'a PodId,
    /// For plugins with the capability.
    pub(crate) port_mappings: &'a [PortMapping],
}

/// What ADD was called with and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    /// The configuration list in force.
    pub(crate) conflist: Value,
    /// The last plugin's result.
    pub(crate) result: Value,
    /// The pod's addresses, in the order of the result.
    pub(crate) ips: Vec<IpAddr>,
}

/// The two directories of CNI.
#[derive(Clone, Debug)]
pub struct Cni {
    /// Holds `*.conflist`.
    pub conf_dir: PathBuf,
    /// Holds the plugins.
    pub bin_dir: PathBuf,
}

impl Cni {
    /// Whether there is a network to attach pods to.
    pub(crate) fn conflist(&self) -> Result<Value, Error> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let entries = match std::fs::read_dir(&self.conf_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotInitialized { dir: self.conf_dir.clone() });
            }
            Err(error) => return Err(read(&self.conf_dir)(error)),
        };
        let files = entries.filter_map(Result::ok).map(|entry| entry.path());
        let first = files.filter(|path| path.extension().is_some_and(|ending| ending == "conflist")).min();
        let path = first.ok_or_else(|| Error::NotInitialized { dir: self.conf_dir.clone() })?;
        let text = std::fs::read(&path).map_err(read(&path))?;
        let list: Option<Value> = serde_json::from_slice(&text).ok();
        list.filter(|list| list["plugins"].is_array() && list["name"].is_string()).ok_or(Error::NotAConflist { path })
    }

    /// Attaches the pod: every plugin in order, each with the result of the one before.
    pub(crate) async fn add(&self, attachment: &Attachment<'_>) -> Result<Attached, Error> {
        let conflist = self.conflist()?;
        let mut previous: Option<Value> = None;
        for plugin in plugins(&conflist) {
            let config = plugin_config(&conflist, plugin, previous.as_ref(), attachment);
            previous = self.execute("ADD", plugin, &config, attachment).await?.or(previous);
        }
        let result = previous.unwrap_or(Value::Null);
        let ips = addresses(&result);
        Ok(Attached { conflist, result, ips })
    }

    /// Detaches the pod: the plugins in reverse, each with the result of ADD. Without a kept list, the one in force.
    pub(crate) async fn del(
        &self,
        attachment: &Attachment<'_>,
        kept: Option<&Value>,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        let conflist = match kept {
            Some(kept) => kept.clone(),
            None => self.conflist()?,
        };
        for plugin in plugins(&conflist).into_iter().rev() {
            let config = plugin_config(&conflist, plugin, result, attachment);
            self.execute("DEL", plugin, &config, attachment).await?;
        }
        Ok(())
    }

    async fn execute(
        &self,
        verb: &'static str,
        plugin: &Value,
        config: &Value,
        attachment: &Attachment<'_>,
    ) -> Result<Option<Value>, Error> {
        let kind = plugin["type"].as_str().unwrap_or_default().to_owned();
        let path = self.bin_dir.join(&kind);
        let exec = |source| Error::Exec { plugin: kind.clone(), path: path.clone(), source };
        let mut command = Command::new(&path);
        command
            .envs(environment(verb, &self.bin_dir, attachment))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(exec)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin that ends without reading its input says why by its exit code.
            let _ = stdin.write_all(config.to_string().as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(exec)?;
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(said);
        }
        let command = if verb == "ADD" { "add" } else { "delete" };
        let message = said.as_ref().and_then(error_message).unwrap_or_else(|| {
            let printed = [output.stdout, output.stderr].concat();
            format!("netplugin failed: {} ({})", String::from_utf8_lossy(&printed).trim(), output.status)
        });
        Err(Error::Plugin { plugin: kind, command, message })
    }
}

fn plugins(conflist: &Value) -> Vec<&Value> {
    conflist["plugins"].as_array().map(|plugins| plugins.iter().collect()).unwrap_or_default()
}

/// The message of an error result, with its details as libcni joins them.
fn error_message(said: &Value) -> Option<String> {
    let message = said["msg"].as_str()?;
    match said["details"].as_str() {
        Some(details) if !details.is_empty() => Some(format!("{message}; {details}")),
        _ => Some(message.to_owned()),
    }
}

/// Section 2: the plugin's own object with the list's name and version, the result before it, and runtime configuration
/// for the capabilities that it declares.
fn plugin_config(conflist: &Value, plugin: &Value, previous: Option<&Value>, attachment: &Attachment<'_>) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = conflist.get("cniVersion").cloned().unwrap_or_else(|| json!("0.1.0"));
    config["name"] = conflist["name"].clone();
    if let Some(previous) = previous {
        config["prevResult"] = previous.clone();
    }
    if plugin["capabilities"]["portMappings"] == json!(true) && !attachment.port_mappings.is_empty() {
        config["runtimeConfig"] = json!({"portMappings": attachment.port_mappings});
    }
    if let Some(object) = config.as_object_mut() {
        object.remove("capabilities");
    }
    config
}

/// Section 4.1. Unlike the rest of the environment, which the plugin inherits.
fn environment(verb: &str, bin_dir: &Path, attachment: &Attachment<'_>) -> Vec<(&'static str, String)> {
    let pod = attachment.pod;
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, attachment.container_id, pod.uid
    );
    vec![
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", attachment.container_id.to_owned()),
        ("CNI_NETNS", attachment.netns.map(|path| path.display().to_string()).unwrap_or_default()),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_PATH", bin_dir.display().to_string()),
        ("CNI_ARGS", args),
    ]
}

/// The addresses of a result, without their prefix lengths.
fn addresses(result: &Value) -> Vec<IpAddr> {
    #[derive(Deserialize)]
    struct Ip {
        address: String,
    }
    let ips: Vec<Ip> = serde_json::from_value(result["ips"].clone()).unwrap_or_default();
    ips.iter().filter_map(|ip| ip.address.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LOGGING: &str = r#"#!/bin/sh
{ echo "$CNI_COMMAND $CNI_IFNAME $CNI_NETNS $CNI_ARGS"; cat; echo; } >> "${0%/*}/calls"
[ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.3/32"},{"address":"fd00::3/128"}]}'
"#;
    const FAILING: &str =
        "#!/bin/sh\necho '{\"code\":11,\"msg\":\"try again later\",\"details\":\"no agent\"}'; exit 1\n";

    fn cni(dir: &Path, script: &str) -> Cni {
        std::fs::write(dir.join("net"), script).expect("plugin");
        std::fs::set_permissions(dir.join("net"), std::fs::Permissions::from_mode(0o755)).expect("mode");
        let list = r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"net","capabilities":{"portMappings":true}},{"type":"net","k":1}]}"#;
        std::fs::write(dir.join("10-a.conflist"), list).expect("conflist");
        std::fs::write(dir.join("20-b.conflist"), "not looked at").expect("conflist");
        Cni { conf_dir: dir.to_owned(), bin_dir: dir.to_owned() }
    }

    fn pod() -> PodId {
        PodId { namespace: "ns".into(), name: "p".into(), uid: "u".into() }
    }

    #[tokio::test]
    async fn adds_in_order_and_deletes_in_reverse() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (cni, pod) = (cni(dir.path(), LOGGING), pod());
        let ports =
            [PortMapping { host_port: 80, container_port: 8080, protocol: "tcp".into(), host_ip: "10.0.0.1".into() }];
        let attachment =
            Attachment { container_id: "id", netns: Some(Path::new("/run/netns/x")), pod: &pod, port_mappings: &ports };
        let attached = cni.add(&attachment).await.expect("add");
        assert_eq!(attached.ips, ["10.1.2.3".parse::<IpAddr>().expect("ip"), "fd00::3".parse().expect("ip")]);
        cni.del(&attachment, Some(&attached.conflist), Some(&attached.result)).await.expect("del");
        let calls = std::fs::read_to_string(dir.path().join("calls")).expect("calls");
        let lines: Vec<&str> = calls.lines().collect();
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=id;K8S_POD_UID=u";
        assert_eq!(lines[0], format!("ADD eth0 /run/netns/x {args}"));
        let configs: Vec<Value> =
            lines.iter().skip(1).step_by(2).map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let mapping = &configs[0]["runtimeConfig"]["portMappings"][0];
        assert_eq!((&mapping["hostPort"], &mapping["hostIP"]), (&json!(80), &json!("10.0.0.1")));
        assert!(configs[0].get("prevResult").is_none() && configs[0].get("capabilities").is_none());
        assert_eq!(
            (&configs[1]["k"], &configs[1]["prevResult"]["ips"][0]["address"]),
            (&json!(1), &json!("10.1.2.3/32"))
        );
        assert_eq!(configs[2]["k"], 1, "DEL starts with the last plugin");
    }

    #[tokio::test]
    async fn errors_are_the_plugins_own_words() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (cni, pod) = (cni(dir.path(), FAILING), pod());
        let attachment = Attachment { container_id: "id", netns: None, pod: &pod, port_mappings: &[] };
        let error = cni.add(&attachment).await.expect_err("fails");
        assert_eq!(error.to_string(), "plugin type=\"net\" failed (add): try again later; no agent");
    }

    #[test]
    fn no_conflist_is_not_initialized() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for conf_dir in [dir.path().to_owned(), dir.path().join("absent")] {
            let cni = Cni { conf_dir, bin_dir: PathBuf::new() };
            assert!(matches!(cni.conflist(), Err(Error::NotInitialized { .. })));
        }
    }
}
