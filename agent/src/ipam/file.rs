//! Files that are replaced whole: for readers, and if it is asked for after a power cut too.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes a file so that after a power cut it is the old one or the new one, whole.
///
/// # Errors
/// What the file system said.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)
}

/// Without `synced` it is whole for every process, but not after a power cut.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32, synced: bool) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // A dot first: container runtimes read every file of a directory whose name ends right.
    let temporary = directory.join(format!(".{name}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    if !synced {
        return fs::rename(&temporary, path);
    }
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}
