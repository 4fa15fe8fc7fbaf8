//! Where things are: the clone, its target directory, the cache outside of it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Directories that the tasks use.
pub(crate) struct Places {
    /// The clone.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// Outside the tree, so that a clean clone builds bpf-linker only once on a machine.
    pub(crate) cache: PathBuf,
}

impl Places {
    pub(crate) fn find() -> anyhow::Result<Places> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask/ lies in the clone")?.to_path_buf();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path));
        let cache = match std::env::var_os("WEFT_CACHE") {
            Some(path) => PathBuf::from(path),
            None => match std::env::var_os("XDG_CACHE_HOME") {
                Some(path) => PathBuf::from(path).join("weft"),
                None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set: set it or WEFT_CACHE")?)
                    .join(".cache/weft"),
            },
        };
        Ok(Places { root, target, cache })
    }

    /// Where the static programs land: the target is named in .cargo/config.toml.
    pub(crate) fn programs(&self) -> PathBuf {
        self.target.join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).join("release")
    }

    pub(crate) fn weft(&self) -> PathBuf {
        self.programs().join("weft")
    }

    /// The BPF object that `agent` embeds.
    pub(crate) fn bpf_object(&self) -> PathBuf {
        self.target.join("bpf").join("weft.bpf.o")
    }

    /// The same of the version before, as to the layout of flows.
    pub(crate) fn former_bpf_object(&self) -> PathBuf {
        self.target.join("bpf").join("weft-former.bpf.o")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    pub(crate) fn bpf_linker(&self) -> PathBuf {
        self.cache.join("bpf-linker").join("bin").join("bpf-linker")
    }
}
