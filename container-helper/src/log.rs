//! The container's log in the CRI format: `TIME stream TAG line`.
//!
//! TAG is `F` for a whole line and `P` for a piece of a line longer than 16 KiB. The file is rotated here, because only
//! the process that writes it can do that without losing lines. Reading and following is the node's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::bundle;

/// The longest piece of a line in one record, as containerd has it.
const LONGEST: usize = 16 * 1024;
/// The file is rotated when it passes this size (kubelet's containerLogMaxSize).
const ROTATE_AT: u64 = 10 * 1024 * 1024;
/// Rotated files that are kept beside the one being written (kubelet's containerLogMaxFiles is 5).
const KEEP: usize = 4;

/// One of the container's two output streams, with what has been read of an unfinished line.
pub(crate) struct Stream {
    name: &'static str,
    rest: Vec<u8>,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rest: Vec::new() }
    }

    /// Takes bytes of the stream and returns the records that they complete.
    fn take(&mut self, bytes: &[u8], time: &str) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut records = Vec::with_capacity(bytes.len() + 64);
        let mut start = 0;
        loop {
            let left = &self.rest[start..];
            let end = left.iter().take(LONGEST + 1).position(|byte| *byte == b'\n');
            let (piece, tag, used) = match end {
                Some(end) => (&left[..end], "F", end + 1),
                None if left.len() > LONGEST => (&left[..LONGEST], "P", LONGEST),
                None => break,
            };
            record(&mut records, time, self.name, tag, piece);
            start += used;
        }
        self.rest.drain(..start);
        records
    }

    /// The stream has ended: an unfinished line becomes a whole one.
    fn finish(&mut self, time: &str) -> Vec<u8> {
        let mut records = Vec::new();
        if !self.rest.is_empty() {
            record(&mut records, time, self.name, "F", &self.rest);
            self.rest.clear();
        }
        records
    }
}

fn record(records: &mut Vec<u8>, time: &str, stream: &str, tag: &str, piece: &[u8]) {
    for part in [time.as_bytes(), b" ", stream.as_bytes(), b" ", tag.as_bytes(), b" ", piece, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// The log file that both streams share.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    /// Opens the file for appending, making its directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// Appends what `bytes` complete on `stream`.
    pub(crate) fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        self.append(&stream.take(bytes, &bundle::now()))
    }

    /// Appends the unfinished last line of `stream`.
    pub(crate) fn finish(&mut self, stream: &mut Stream) -> io::Result<()> {
        self.append(&stream.finish(&bundle::now()))
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.size >= ROTATE_AT {
            self.rotate()?;
        }
        self.size += records.len() as u64;
        self.file.write_all(records)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(format!(".{}", jiff::Timestamp::now().as_millisecond()));
        fs::rename(&self.path, &old)?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        for extra in rotated(&self.path)?.into_iter().rev().skip(KEEP) {
            fs::remove_file(extra)?;
        }
        Ok(())
    }
}

/// Rotated files of this log, oldest first.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut files: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], expected: &str) {
        let mut stream = Stream::new("stdout");
        let mut records: Vec<u8> = pieces.iter().flat_map(|piece| stream.take(piece.as_bytes(), "T")).collect();
        records.extend(stream.finish("T"));
        assert_eq!(String::from_utf8(records).expect("UTF-8 in, UTF-8 out"), expected);
    }

    #[test]
    fn lines_become_records() {
        check(&["one\ntwo\n"], "T stdout F one\nT stdout F two\n");
        check(&["o", "ne", "\n"], "T stdout F one\n");
        check(&["\n"], "T stdout F \n");
        check(&["last without end"], "T stdout F last without end\n");
        check(&[], "");
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = "x".repeat(LONGEST);
        check(&[&format!("{long}yz\n")], &format!("T stdout P {long}\nT stdout F yz\n"));
        check(&[&format!("{long}\n")], &format!("T stdout F {long}\n"));
    }
}
