//! The ledger's file: all pages in its first line, and behind it a line for each change since.
//!
//! A change costs one `write(2)` however many pods there are. Whoever is killed within it leaves a last line without its end,
//! which never happened: nobody was told of it. From time to time, and when the agent ends, the file is replaced by the pages
//! alone, which agents that knew no lines can read; they refuse a file with lines instead of missing what these say.
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde_json::Deserializer;

use super::{Change, Pages, file};

/// Bytes of lines up to which the file is not replaced, however short the pages are.
const LEAST: u64 = 256 << 10;

/// An open file of pages and changes.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Open for appending; absent if the next change has to write everything.
    file: Option<File>,
    /// Bytes of the pages.
    pages: u64,
    /// Bytes of the changes behind them.
    changes: u64,
}

impl Journal {
    /// What the file at `path` says; nothing if there is none.
    ///
    /// # Errors
    /// What the file system said, or that the file makes no sense.
    pub(super) fn open(path: PathBuf) -> io::Result<(Journal, Pages)> {
        let pages = read(&path)?;
        Ok((Journal { path, file: None, pages: 0, changes: 0 }, pages.unwrap_or_default()))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down a change of `pages`, which are as they are after it; on an error it did not happen.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn append(&mut self, change: &Change, pages: impl FnOnce() -> Pages) -> io::Result<()> {
        let mut line = serde_json::to_vec(change).expect("strings and addresses are JSON");
        line.push(b'\n');
        let grown = self.changes + line.len() as u64;
        // A file that somebody removed is made anew.
        let there = |file: &File| file.metadata().is_ok_and(|data| data.nlink() > 0);
        let fits = grown <= LEAST.max(self.pages);
        if let Some(mut file) = self.file.take_if(|file| fits && there(file))
            && file.write_all(&line).is_ok()
        {
            self.changes = grown;
            self.file = Some(file);
            return Ok(());
        }
        // Also when a part of the line was written: replacing the file is what removes it.
        self.replace(&pages())
    }

    /// Replaces the file by `pages`, if there is more in it.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn fold(&mut self, pages: &Pages) -> io::Result<()> {
        if self.file.is_some() && self.changes == 0 { Ok(()) } else { self.replace(pages) }
    }

    fn replace(&mut self, pages: &Pages) -> io::Result<()> {
        let mut text = serde_json::to_vec(pages).expect("strings and addresses are JSON");
        text.push(b'\n');
        self.file = None;
        file::replace(&self.path, &text, 0o600, false)?;
        (self.pages, self.changes) = (text.len() as u64, 0);
        // If it cannot be opened, the next change writes everything again.
        self.file = File::options().append(true).open(&self.path).ok();
        Ok(())
    }
}

/// The pages of a file with all its changes; none if there is no file.
///
/// # Errors
/// What the file system said, or that the file makes no sense.
pub(super) fn read(path: &Path) -> io::Result<Option<Pages>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut first = Deserializer::from_slice(&bytes).into_iter::<Pages>();
    let mut pages = first.next().ok_or_else(|| io::Error::other("it is empty"))??;
    let lines = &bytes[first.byte_offset()..];
    // Behind the last end of a line is what a killed agent had begun to write.
    let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for line in lines[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        pages.apply(serde_json::from_slice::<Change>(line)?);
    }
    Ok(Some(pages))
}
