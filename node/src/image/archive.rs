//! Reading what `docker save`, `skopeo copy` and `buildah push` write: docker archives and OCI image layouts.
//!
//! An archive is spread into a temporary directory of the store; from there on both formats are a directory of files, and
//! files become blobs by rename. Nothing is unpacked here; that is `layer`'s work.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{Error, Image, Layer, Store, hex_of, reference};

/// Moves the blobs of every image in `source` into the store; returns the images by normalised reference.
pub(super) fn load(store: &Store, source: &Path) -> Result<Vec<(String, Image)>, Error> {
    let metadata = fs::metadata(source).map_err(Error::io("open", source))?;
    if metadata.is_dir() {
        return Layout { store, dir: source, source, own: false }.images();
    }
    let spread = store.root.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
    fs::create_dir(&spread).map_err(Error::io("create", &spread))?;
    let result = spread_tar(source, &spread).and_then(|()| Layout { store, dir: &spread, source, own: true }.images());
    let _ = fs::remove_dir_all(&spread);
    result
}

/// Spreads the archive's files; links and anything that would leave the directory are left out.
fn spread_tar(source: &Path, into: &Path) -> Result<(), Error> {
    let fail = Error::io("read", source);
    let run = || -> io::Result<()> {
        let mut magic = [0; 2];
        let count = File::open(source)?.read(&mut magic)?;
        let file = BufReader::with_capacity(1 << 16, File::open(source)?);
        let stream: Box<dyn Read> =
            if magic[..count] == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        for entry in tar::Archive::new(stream).entries()? {
            let mut entry = entry?;
            // Old docker archives name a layer twice by a symbolic link inside the archive.
            if entry.header().entry_type().is_file() || entry.header().entry_type().is_symlink() {
                entry.unpack_in(into)?;
            }
        }
        Ok(())
    };
    run().map_err(fail)
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct ConfigRootfs {
    rootfs: Rootfs,
}

#[derive(Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

/// A directory with an OCI layout or a spread docker archive in it.
struct Layout<'a> {
    store: &'a Store,
    dir: &'a Path,
    /// What the user named, for messages.
    source: &'a Path,
    /// Whether files may be moved out of it.
    own: bool,
}

impl Layout<'_> {
    fn images(&self) -> Result<Vec<(String, Image)>, Error> {
        let found = if self.dir.join("manifest.json").exists() {
            self.docker_images()?
        } else if self.dir.join("index.json").exists() {
            self.oci_images()?
        } else {
            return Err(Error::NotAnImage { path: self.source.to_owned() });
        };
        if found.is_empty() {
            return Err(Error::NoReference { path: self.source.to_owned() });
        }
        Ok(found)
    }

    fn docker_images(&self) -> Result<Vec<(String, Image)>, Error> {
        let mut found = Vec::new();
        for image in self.json::<Vec<DockerImage>>(&self.dir.join("manifest.json"))? {
            let layers: Vec<PathBuf> = image.layers.iter().map(|layer| self.dir.join(layer)).collect();
            let stored = self.adopt_image(&self.dir.join(&image.config), &layers)?;
            for tag in image.repo_tags.unwrap_or_default() {
                found.push((reference::normalize(&tag)?, stored.clone()));
            }
        }
        Ok(found)
    }

    fn oci_images(&self) -> Result<Vec<(String, Image)>, Error> {
        let mut found = Vec::new();
        for descriptor in self.json::<OciIndex>(&self.dir.join("index.json"))?.manifests {
            // containerd's own annotation has the whole name; OCI's may be a bare tag.
            let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
                .iter()
                .find_map(|key| descriptor.annotations.get(*key));
            let Some(name) = name else { continue };
            let manifest = self.manifest(&descriptor)?;
            let layers =
                manifest.layers.iter().map(|layer| self.path_of(&layer.digest)).collect::<Result<Vec<_>, _>>()?;
            found.push((
                reference::normalize(name)?,
                self.adopt_image(&self.path_of(&manifest.config.digest)?, &layers)?,
            ));
        }
        Ok(found)
    }

    /// The manifest for this machine behind a descriptor, which may be an index of platforms.
    fn manifest(&self, descriptor: &Descriptor) -> Result<OciManifest, Error> {
        let path = self.path_of(&descriptor.digest)?;
        if !descriptor.media_type.contains("index") && !descriptor.media_type.contains("manifest.list") {
            return self.json(&path);
        }
        let ours = |platform: &Platform| platform.os == "linux" && platform.architecture == reference::architecture();
        let index: OciIndex = self.json(&path)?;
        let chosen = index.manifests.into_iter().find(|one| one.platform.as_ref().is_none_or(ours));
        self.manifest(&chosen.ok_or_else(|| Error::NoPlatform { path: self.source.to_owned() })?)
    }

    fn adopt_image(&self, config: &Path, layers: &[PathBuf]) -> Result<Image, Error> {
        let diff_ids = self.json::<ConfigRootfs>(config)?.rootfs.diff_ids;
        let (id, mut size) = self.adopt(config)?;
        let mut stored = Vec::with_capacity(layers.len());
        for (path, diff_id) in layers.iter().zip(diff_ids) {
            let (blob, bytes) = self.adopt(path)?;
            size += bytes;
            stored.push(Layer { blob, diff_id });
        }
        Ok(Image { id, layers: stored, size })
    }

    /// Makes a blob of a file; returns its digest and size.
    fn adopt(&self, path: &Path) -> Result<(String, u64), Error> {
        let mut hash = Sha256::new();
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let size = io::copy(&mut file, &mut hash).map_err(Error::io("read", path))?;
        let digest = format!("sha256:{:x}", hash.finalize());
        let blob = self.store.blob(&digest)?;
        if !blob.exists() {
            let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
            if self.own && !is_link && fs::hard_link(path, &blob).is_ok() {
                return Ok((digest, size));
            }
            let partial = self.store.root.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
            fs::copy(path, &partial).map_err(Error::io("copy", path))?;
            fs::rename(&partial, &blob).map_err(Error::io("rename", &partial))?;
        }
        Ok((digest, size))
    }

    fn path_of(&self, digest: &str) -> Result<PathBuf, Error> {
        Ok(self.dir.join("blobs/sha256").join(hex_of(digest)?))
    }

    fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Error> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_owned(), source })
    }
}
