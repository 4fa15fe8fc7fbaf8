//! The CNI configuration and the plugin's program: put in place last, since a runtime that sees them starts pods.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::ipam::write_atomically;

/// First by name, so that runtimes take it before others.
const NAME: &str = "05-weft.conflist";
/// The plugin's program.
const PLUGIN: &str = "weft-cni";

/// A file of the CNI configuration cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct ConflistError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Copies the plugin, unless the same bytes are there already.
///
/// # Errors
/// [`ConflistError`].
pub fn install(plugin: &Path, directory: &Path) -> Result<(), ConflistError> {
    let failed = |operation, path: &Path| {
        let path = path.to_path_buf();
        move |source| ConflistError { operation, path, source }
    };
    let bytes = fs::read(plugin).map_err(failed("read", plugin))?;
    let target = directory.join(PLUGIN);
    if fs::read(&target).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    write_atomically(&target, &bytes, 0o755).map_err(failed("write", &target))
}

/// Writes the configuration list.
///
/// # Errors
/// [`ConflistError`].
pub fn write(directory: &Path, socket: &Path) -> Result<(), ConflistError> {
    let path = directory.join(NAME);
    let text = text(socket);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    write_atomically(&path, text.as_bytes(), 0o644).map_err(|source| ConflistError { operation: "write", path, source })
}

/// Removes the configuration and the plugin.
///
/// # Errors
/// [`ConflistError`].
pub fn remove(conf: &Path, bin: &Path) -> Result<(), ConflistError> {
    for path in [conf.join(NAME), bin.join(PLUGIN)] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ConflistError { operation: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn text(socket: &Path) -> String {
    let capabilities = serde_json::json!({ "ips": true, "mac": true, "portMappings": true, "bandwidth": true });
    let plugin = serde_json::json!({ "type": PLUGIN, "socket": socket, "capabilities": capabilities });
    // Runtimes from before 1.1.0 (containerd 1.6) refuse a newer `cniVersion` and do not know the list of more.
    let versions = ["0.4.0", "1.0.0", "1.1.0"];
    let list =
        serde_json::json!({ "cniVersion": "1.0.0", "cniVersions": versions, "name": "weft", "plugins": [plugin] });
    serde_json::to_string_pretty(&list).expect("strings are JSON") + "\n"
}
