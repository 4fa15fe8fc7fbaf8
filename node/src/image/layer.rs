//! Unpacking a layer into a directory that overlayfs takes as it is.
//!
//! Whiteout files become overlayfs's own marks. The content is checked against the diff id while it is unpacked; the
//! directory gets its final name only after that, so a half-unpacked layer is never seen.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};

use super::{Error, Layer, Store, hex_of, lock};

/// The name of the unpacked layer's directory: half of its diff id, so that many layers fit into overlayfs's one page of
/// mount options.
pub(super) fn name(layer: &Layer) -> Result<&str, Error> {
    Ok(&hex_of(&layer.diff_id)?[..32])
}

/// The directory of the unpacked layer; unpacks it if it is not there. Other processes that want it meanwhile wait.
pub(super) fn unpacked(store: &Store, layer: &Layer) -> Result<PathBuf, Error> {
    let done = store.root.join("layers").join(name(layer)?);
    if done.exists() {
        return Ok(done);
    }
    let _lock = lock(&done.with_extension("lock"))?;
    if done.exists() {
        return Ok(done);
    }
    let partial = done.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
    }
    fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
    unpack(store, layer, &partial)?;
    fs::rename(&partial, &done).map_err(Error::io("rename", &partial))?;
    Ok(done)
}

fn unpack(store: &Store, layer: &Layer, into: &Path) -> Result<(), Error> {
    let blob = store.blob(&layer.blob)?;
    let mut content = Hashed { inner: decompressed(&blob, layer)?, hash: Sha256::new() };
    let mut archive = tar::Archive::new(&mut content);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_unpack_xattrs(true);
    archive.set_preserve_mtime(true);
    for entry in archive.entries().map_err(Error::io("unpack", &blob))? {
        let mut entry = entry.map_err(Error::io("unpack", &blob))?;
        place(&mut entry, into).map_err(Error::io("unpack", &blob))?;
    }
    // What follows the end mark of the archive belongs to the digest too.
    io::copy(&mut content, &mut io::sink()).map_err(Error::io("read", &blob))?;
    let found = format!("sha256:{:x}", content.hash.finalize());
    if found != layer.diff_id {
        return Err(Error::WrongContent { blob: layer.blob.clone(), expected: layer.diff_id.clone(), found });
    }
    Ok(())
}

/// The layer's tar stream, whatever it is compressed with.
fn decompressed(blob: &Path, layer: &Layer) -> Result<Box<dyn Read>, Error> {
    let mut magic = [0; 4];
    let mut file = File::open(blob).map_err(Error::io("open", blob))?;
    let count = file.read(&mut magic).map_err(Error::io("read", blob))?;
    let file = BufReader::with_capacity(1 << 16, File::open(blob).map_err(Error::io("open", blob))?);
    match &magic[..count] {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Err(Error::Compression { blob: layer.blob.clone() }),
        _ => Ok(Box::new(file)),
    }
}

/// Puts one entry at its place: whiteouts as overlayfs marks, devices not at all (a container's /dev is its own).
fn place(entry: &mut tar::Entry<'_, impl Read>, into: &Path) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    if entry.header().entry_type().is_character_special() || entry.header().entry_type().is_block_special() {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(hidden) = name.strip_prefix(".wh.") else {
        entry.unpack_in(into)?;
        return Ok(());
    };
    let Some(parent) = inside(into, path.parent().unwrap_or(Path::new(""))) else { return Ok(()) };
    fs::create_dir_all(&parent)?;
    if name == ".wh..wh..opq" {
        return xattr::set(&parent, "trusted.overlay.opaque", b"y");
    }
    let mark = parent.join(hidden);
    if fs::symlink_metadata(&mark).is_ok() {
        return Ok(()); // Hidden and made again in the same layer: what it made stays.
    }
    Ok(mknod(&mark, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?)
}

/// The path below `root` if it does not leave it, not even through a link that the layer made.
fn inside(root: &Path, relative: &Path) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for component in relative.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return None;
        }
    }
    Some(path)
}

/// A reader that hashes what passes through it.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
