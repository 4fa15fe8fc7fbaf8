//! Reading container logs: CRI format on disk → what `kubectl logs` prints.
//!
//! Parsing and choosing lines is pure; [`stream`] reads a file and, with `follow`, goes on reading until the container has
//! ended. A file that is rotated meanwhile is read to its end before the new one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// What of the log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Go on until the container ends.
    pub(crate) follow: bool,
    /// Only the last lines.
    pub(crate) tail: Option<usize>,
    /// Prefix each line with its time.
    pub(crate) timestamps: bool,
    /// Only lines of this time or later.
    pub(crate) since: Option<Timestamp>,
    /// No more bytes than this.
    pub(crate) limit: Option<usize>,
}

/// Appends the text of one CRI record (without its line end) to `out`; false if it is too old or no record.
fn render(record: &[u8], options: &Options, out: &mut Vec<u8>) -> bool {
    let mut parts = record.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(_), Some(tag), Some(text)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    if let Some(since) = options.since {
        let at: Option<Timestamp> = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
        if at.is_none_or(|at| at < since) {
            return false;
        }
    }
    if options.timestamps {
        out.extend_from_slice(time);
        out.push(b' ');
    }
    out.extend_from_slice(text);
    // A piece of a longer line: the rest follows on the same line.
    if !tag.starts_with(b"P") {
        out.push(b'\n');
    }
    true
}

/// Where the last `lines` whole lines begin; a line in pieces counts once.
fn tail_start(log: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return log.len();
    }
    let is_whole =
        |record: &[u8]| record.splitn(4, |byte| *byte == b' ').nth(2).is_some_and(|tag| tag.starts_with(b"F"));
    let (mut end, mut found) = (log.len(), 0);
    while end > 0 {
        let start = log[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if is_whole(&log[start..end]) {
            found += 1;
            if found > lines {
                return end;
            }
        }
        end = start;
    }
    0
}

/// The last lines of a log as text, for termination messages.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let log = std::fs::read(path).unwrap_or_default();
    let mut out = Vec::new();
    for record in log[tail_start(&log, lines)..].split(|byte| *byte == b'\n') {
        render(record, &Options::default(), &mut out);
    }
    String::from_utf8_lossy(&out).trim_end().to_owned()
}

/// Sends what is wanted of the log at `path`; ends when the receiver is gone, or the log has ended and `running` says no.
/// Blocking: run it on a thread for that.
pub(crate) fn stream(
    path: &Path,
    options: &Options,
    running: impl Fn() -> bool,
    to: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let mut reader = Reader::open(path, options.tail)?;
    let mut left = options.limit.unwrap_or(usize::MAX);
    loop {
        // Asked before reading: what was written before its end is read before we leave.
        let alive = options.follow && running();
        let read = reader.read()?;
        let mut out = Vec::new();
        while let Some(record) = reader.next_record() {
            render(&record, options, &mut out);
        }
        out.truncate(left);
        left -= out.len();
        if !out.is_empty() && to.blocking_send(Bytes::from(out)).is_err() {
            return Ok(());
        }
        if left == 0 || to.is_closed() {
            return Ok(());
        }
        if read == 0 && !reader.rotate()? {
            if !alive {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// A log file that is being written.
struct Reader {
    path: PathBuf,
    file: File,
    rest: Vec<u8>,
}

impl Reader {
    fn open(path: &Path, tail: Option<usize>) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        if let Some(lines) = tail {
            let mut log = Vec::new();
            file.read_to_end(&mut log)?;
            let start = tail_start(&log, lines);
            file.seek(SeekFrom::Start(start as u64))?;
        }
        Ok(Self { path: path.to_owned(), file, rest: Vec::new() })
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut chunk = vec![0; CHUNK];
        let count = self.file.read(&mut chunk)?;
        self.rest.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn next_record(&mut self) -> Option<Vec<u8>> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let record = self.rest[..end].to_vec();
        self.rest.drain(..=end);
        Some(record)
    }

    /// Goes on with a new file of the same name, if there is one.
    fn rotate(&mut self) -> std::io::Result<bool> {
        let Ok(now) = std::fs::metadata(&self.path) else { return Ok(false) };
        if now.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        self.file = File::open(&self.path)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-21T00:00:01.000000000Z stdout F one\n2026-11-21T00:00:02.000000000Z stderr P tw\n\
                       2026-11-21T00:00:02.500000000Z stderr F o\n2026-11-21T00:00:03.000000000Z stdout F three\n";

    fn read(path: &Path, options: &Options, running: impl Fn() -> bool) -> String {
        let (to, mut from) = mpsc::channel(100);
        stream(path, options, running, &to).expect("a log");
        drop(to);
        let mut out = Vec::new();
        while let Ok(bytes) = from.try_recv() {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).expect("text")
    }

    #[track_caller]
    fn check(options: &Options, expected: &str) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).expect("log");
        assert_eq!(read(&path, options, || false), expected);
    }

    #[test]
    fn options_choose() {
        check(&Options::default(), "one\ntwo\nthree\n");
        check(&Options { tail: Some(2), ..Options::default() }, "two\nthree\n");
        check(&Options { tail: Some(0), ..Options::default() }, "");
        check(&Options { tail: Some(9), ..Options::default() }, "one\ntwo\nthree\n");
        check(&Options { limit: Some(5), ..Options::default() }, "one\nt");
        check(
            &Options { timestamps: true, tail: Some(1), ..Options::default() },
            "2026-11-21T00:00:03.000000000Z three\n",
        );
        check(&Options { since: "2026-11-21T00:00:03Z".parse().ok(), ..Options::default() }, "three\n");
        check(&Options { follow: true, ..Options::default() }, "one\ntwo\nthree\n");
    }

    #[test]
    fn follows_over_a_rotation_to_the_end() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).expect("log");
        let turns = std::cell::Cell::new(0);
        let running = || {
            turns.set(turns.get() + 1);
            if turns.get() == 2 {
                std::fs::rename(&path, dir.path().join("0.log.1")).expect("rotation");
                std::fs::write(&path, "2026-11-21T00:00:04.000000000Z stdout F four\n").expect("log");
            }
            turns.get() < 4
        };
        assert_eq!(read(&path, &Options { follow: true, ..Options::default() }, running), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn tails_as_text() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).expect("log");
        assert_eq!(tail(&path, 2), "two\nthree");
        assert_eq!(tail(&dir.path().join("absent"), 2), "");
    }
}
