//! Files of a volume that change all at once, as the kubelet's atomic writer lays them out.
//!
//! ```text
//! VOLUME/..data      → ..2026_11_21.123456789   (replaced by rename: the moment of the change)
//! VOLUME/colour      → ..data/colour            (what the container opens)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// The content and mode of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// What is in it.
    pub(crate) content: Vec<u8>,
    /// Its permission bits.
    pub(crate) mode: u32,
}

/// Files by their path in the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// Makes the volume hold exactly `payload`; an unchanged one is left alone. `group` owns the files where it is given.
pub(crate) fn write(volume: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(volume)?;
    let data = volume.join("..data");
    let old = fs::read_link(&data).ok().map(|target| volume.join(target));
    if old.as_ref().is_some_and(|old| holds(old, payload, group)) {
        return Ok(());
    }
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let new = volume.join(&name);
    for (path, file) in payload {
        place(&new, path, file, group)?;
    }
    fs::create_dir_all(&new)?;
    let next = volume.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&name, &next)?;
    fs::rename(&next, &data)?;
    link_first_names(volume, payload)?;
    match old {
        Some(old) => fs::remove_dir_all(old),
        None => Ok(()),
    }
}

/// Whether `dir` holds the payload and nothing else.
fn holds(dir: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let same = |path: &String, file: &File| {
        let path = dir.join(path);
        let mode = fs::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o7777);
        fs::read(&path).is_ok_and(|content| content == file.content)
            && mode.is_ok_and(|mode| mode == mode_for(file, group))
    };
    payload.iter().all(|(path, file)| same(path, file)) && count(dir) == payload.len()
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

/// With a group of its own, the group may read what the owner may, as the kubelet's fsGroup has it.
fn mode_for(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

fn place(dir: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = dir.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &file.content)?;
    if group.is_some() {
        chown(&target, None, group)?;
    }
    fs::set_permissions(&target, fs::Permissions::from_mode(mode_for(file, group)))
}

/// Links the first component of each path through `..data`, and removes links to what is no more.
fn link_first_names(volume: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from("..data").join(name), link)?;
        }
    }
    for entry in fs::read_dir(volume)?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| (path.to_string(), File { content: text.as_bytes().to_vec(), mode: 0o644 }))
            .collect()
    }

    fn names(volume: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(volume)
            .expect("volume")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| !name.starts_with("..20"));
        names.sort();
        names
    }

    #[test]
    fn files_change_at_once() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let volume = dir.path().join("v");
        write(&volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("write");
        assert_eq!(names(&volume), ["..data", "a", "sub"]);
        assert_eq!(fs::read_to_string(volume.join("sub/b")).expect("file"), "2");
        let first = fs::read_link(volume.join("..data")).expect("link");
        write(&volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("write");
        assert_eq!(fs::read_link(volume.join("..data")).expect("link"), first, "unchanged");
        write(&volume, &payload(&[("a", "3")]), None).expect("write");
        assert_eq!(
            (names(&volume), fs::read_to_string(volume.join("a")).expect("file").as_str()),
            (vec!["..data".to_owned(), "a".to_owned()], "3")
        );
        assert!(!volume.join(first).exists());
        write(&volume, &payload(&[]), None).expect("write");
        assert_eq!(names(&volume), ["..data"]);
    }
}
