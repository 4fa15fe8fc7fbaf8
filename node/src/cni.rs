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

/// The newest version of the specification that is spoken here.
const NEWEST: [u32; 3] = [1, 1, 0];
/// A pod's interface to the one network that it has.
const INTERFACE: &str = "eth0";

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
        /// `add`, `delete` or `gc`.
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
            let variables = environment("ADD", &self.bin_dir, attachment);
            previous = self.execute("ADD", plugin, &config, variables).await?.or(previous);
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
            self.execute("DEL", plugin, &config, environment("DEL", &self.bin_dir, attachment)).await?;
        }
        Ok(())
    }

    /// Lets the plugins of a list release what is of none of the valid attachments, given as container ids. Every plugin is
    /// called, also after one that failed. A list older than 1.1.0, or with `disableGC`, wants no such call.
    ///
    /// # Errors
    /// The first plugin's that failed.
    pub(crate) async fn gc(&self, conflist: &Value, valid: &[String]) -> Result<(), Error> {
        if !wants_gc(conflist) {
            return Ok(());
        }
        let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": INTERFACE})).collect();
        let mut result = Ok(());
        for plugin in plugins(conflist) {
            let mut config = named(conflist, plugin);
            config["cni.dev/valid-attachments"] = json!(valid);
            let variables = vec![("CNI_COMMAND", "GC".to_owned()), ("CNI_PATH", self.bin_dir.display().to_string())];
            result = result.and(self.execute("GC", plugin, &config, variables).await.map(drop));
        }
        result
    }

    async fn execute(
        &self,
        verb: &'static str,
        plugin: &Value,
        config: &Value,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Option<Value>, Error> {
        let kind = plugin["type"].as_str().unwrap_or_default().to_owned();
        let path = self.bin_dir.join(&kind);
        let exec = |source| Error::Exec { plugin: kind.clone(), path: path.clone(), source };
        let mut command = Command::new(&path);
        command.envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
        let command = match verb {
            "ADD" => "add",
            "DEL" => "delete",
            _ => "gc",
        };
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
    let mut config = named(conflist, plugin);
    if let Some(previous) = previous {
        config["prevResult"] = previous.clone();
    }
    if plugin["capabilities"]["portMappings"] == json!(true) && !attachment.port_mappings.is_empty() {
        config["runtimeConfig"] = json!({"portMappings": attachment.port_mappings});
    }
    config
}

/// The plugin's own object with the list's name and version, and without what only the runtime reads.
fn named(conflist: &Value, plugin: &Value) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = json!(version(conflist).unwrap_or("0.1.0"));
    config["name"] = conflist["name"].clone();
    if let Some(object) = config.as_object_mut() {
        object.remove("capabilities");
    }
    config
}

/// GC exists since 1.1.0, and a list may forbid it (section 1).
fn wants_gc(conflist: &Value) -> bool {
    let forbidden = conflist["disableGC"] == json!(true) || conflist["disableGC"] == json!("true");
    version(conflist).is_some_and(|version| numbers(version).as_slice() >= &NEWEST[..2]) && !forbidden
}

/// The newest version that the list offers and this knows: of `cniVersions`, which older runtimes overlook, or `cniVersion`.
fn version(conflist: &Value) -> Option<&str> {
    let offered = conflist["cniVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let known = offered.filter(|offered| numbers(offered).as_slice() <= &NEWEST);
    known.chain(conflist["cniVersion"].as_str()).max_by_key(|version| numbers(version))
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
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
        ("CNI_IFNAME", INTERFACE.to_owned()),
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
mod tests;
