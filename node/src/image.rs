//! The image store: images of a machine's nodes, on disk, without a registry.
//!
//! `weft image load` puts OCI layouts and docker or OCI archives in; the embedded runtime takes layers out. Several nodes
//! and several loads use one store at the same time: blobs are content-addressed, files appear by rename, the index is
//! rewritten under a lock and read without one, and a layer is unpacked once under a lock of its own.
//!
//! ```text
//! STORE/index.json            reference → image          STORE/index.lock
//! STORE/blobs/sha256/<hex>    configs and layers as they came
//! STORE/layers/<hex>/         an unpacked layer, by the first half of its diff id
//! ```

mod archive;
mod layer;
pub mod reference;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the store or of the source.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// JSON that is not what the format says.
    #[error("parse {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Neither an OCI layout nor a docker archive.
    #[error("{} is neither an OCI image layout nor a docker archive: it has no index.json and no manifest.json", path.display())]
    NotAnImage {
        /// The file or directory.
        path: PathBuf,
    },
    /// The archive names no reference to load the image under.
    #[error("{} names no image reference (RepoTags or org.opencontainers.image.ref.name)", path.display())]
    NoReference {
        /// The file or directory.
        path: PathBuf,
    },
    /// There is no image for this machine's architecture in it.
    #[error("{} has no image for linux/{}", path.display(), reference::architecture())]
    NoPlatform {
        /// The file or directory.
        path: PathBuf,
    },
    /// A digest that is not `sha256:<64 hex digits>`.
    #[error("unsupported digest {digest:?}")]
    Digest {
        /// As written.
        digest: String,
    },
    /// A layer whose content is not what the config says.
    #[error("layer {blob} unpacks to {found}, its image says {expected}")]
    WrongContent {
        /// The layer's blob.
        blob: String,
        /// The diff id in the image's config.
        expected: String,
        /// What was unpacked.
        found: String,
    },
    /// A layer compressed with something other than gzip.
    #[error(
        "layer {blob} is compressed with zstd, which is not supported: save the image with gzip or uncompressed layers"
    )]
    Compression {
        /// The layer's blob.
        blob: String,
    },
    /// A reference that does not parse.
    #[error(transparent)]
    Reference(#[from] reference::InvalidReference),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

/// One image, as the index has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The config's digest, `sha256:<hex>`: the image's id.
    pub id: String,
    /// Blobs from the lowest to the topmost.
    pub layers: Vec<Layer>,
    /// Bytes of all blobs.
    pub size: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob as it came.
    pub blob: String,
    /// Digest of its uncompressed content.
    pub diff_id: String,
}

/// What an image says about how to run it: the `config` part of an OCI image config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Replaced by a container's `command`.
    pub entrypoint: Option<Vec<String>>,
    /// Replaced by a container's `args`; dropped when it has a `command`.
    pub cmd: Option<Vec<String>>,
    /// Empty for `/`.
    pub working_dir: String,
    /// The signal that asks it to end; empty for SIGTERM.
    pub stop_signal: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Image>,
}

/// Loads an OCI layout (directory or tar, plain or gzip) or a docker archive into the store at `store`, which is made if
/// it is not there. Returns the normalised references of the images in it.
pub fn load_tar(store: &Path, source: &Path) -> Result<Vec<String>, Error> {
    Store::open(store)?.load(source)
}

/// A store on disk. Cheap to clone; holds no state but its path.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store, making its directories if they are not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for sub in ["blobs/sha256", "layers", "tmp"] {
            let path = root.join(sub);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Loads every image of `source` and unpacks its layers; see [`load_tar`].
    pub fn load(&self, source: &Path) -> Result<Vec<String>, Error> {
        let found = archive::load(self, source)?;
        for (_, image) in &found {
            self.layer_dirs(image)?;
        }
        let references: Vec<String> = found.iter().map(|(reference, _)| reference.clone()).collect();
        self.change(|index| index.images.extend(found))?;
        Ok(references)
    }

    /// The image of a reference as a pod spec writes it, or of an image id; `None` if it is not in the store.
    pub fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let index = self.index()?;
        if reference.starts_with("sha256:") {
            return Ok(index.images.into_values().find(|image| image.id == reference));
        }
        Ok(index.images.get(&reference::normalize(reference)?).cloned())
    }

    /// All references with their images, sorted.
    pub fn images(&self) -> Result<Vec<(String, Image)>, Error> {
        Ok(self.index()?.images.into_iter().collect())
    }

    /// Removes a reference. Blobs and layers that no other reference uses go with it.
    pub fn remove(&self, reference: &str) -> Result<(), Error> {
        let name = reference::normalize(reference)?;
        let mut unused = Vec::new();
        self.change(|index| {
            if let Some(image) = index.images.remove(&name) {
                unused = paths_of(&image);
                let used: Vec<String> = index.images.values().flat_map(paths_of).collect();
                unused.retain(|path| !used.contains(path));
            }
        })?;
        for path in unused.iter().map(|path| self.root.join(path)) {
            // What another process still uses stays until the next removal.
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        Ok(())
    }

    /// How the image wants to be run.
    pub fn config(&self, image: &Image) -> Result<ImageConfig, Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            config: Option<ImageConfig>,
        }
        let path = self.blob(&image.id)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let whole: Whole = serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source })?;
        Ok(whole.config.unwrap_or_default())
    }

    /// The unpacked layers, lowest first; unpacks what is not there yet.
    pub fn layer_dirs(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        image.layers.iter().map(|layer| layer::unpacked(self, layer)).collect()
    }

    /// The path of a blob, whether it is there or not.
    fn blob(&self, digest: &str) -> Result<PathBuf, Error> {
        Ok(self.root.join("blobs/sha256").join(hex_of(digest)?))
    }

    fn index(&self) -> Result<Index, Error> {
        let path = self.root.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(source) => Err(Error::Io { operation: "read", path, source }),
        }
    }

    /// Changes the index under its lock and replaces it by rename.
    fn change(&self, edit: impl FnOnce(&mut Index)) -> Result<(), Error> {
        let _lock = lock(&self.root.join("index.lock"))?;
        let mut index = self.index()?;
        edit(&mut index);
        let path = self.root.join("index.json");
        let new = self.root.join("index.json.new");
        let text = serde_json::to_vec_pretty(&index).expect("maps of strings are always JSON");
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("replace", &path))
    }
}

/// Paths in the store that belong to one image.
fn paths_of(image: &Image) -> Vec<String> {
    let blobs = image.layers.iter().map(|layer| &layer.blob).chain([&image.id]);
    let mut paths: Vec<String> =
        blobs.filter_map(|digest| Some(format!("blobs/sha256/{}", hex_of(digest).ok()?))).collect();
    paths.extend(image.layers.iter().filter_map(|layer| Some(format!("layers/{}", layer::name(layer).ok()?))));
    paths
}

/// The hex digits of a sha256 digest.
fn hex_of(digest: &str) -> Result<&str, Error> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| Error::Digest { digest: digest.to_owned() })
}

/// Waits for and holds an exclusive lock until the value is dropped.
fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file = File::options().create(true).append(true).open(path).map_err(Error::io("open", path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| Error::io("lock", path)(error.into()))
}

#[cfg(test)]
mod tests;
