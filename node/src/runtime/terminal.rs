//! A process's terminal, seen from outside: the master side of its pty.
//!
//! The runtime's init makes the pty in the container's own devpts and sends the master through a socket, as runc does. When
//! the last [`Terminal`] is dropped the kernel hangs the session up.
#![expect(unsafe_code, reason = "a descriptor arrives as a number, and a terminal's size is set by an ioctl")]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixListener;

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

nix::ioctl_write_ptr_bad!(
    /// Tells the terminal its size; its foreground processes get SIGWINCH.
    set_window_size, libc::TIOCSWINSZ, libc::winsize
);

/// The master side of a pty.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// Takes the descriptor over.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        fcntl(master.as_fd(), FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        // SAFETY: an `OwnedFd` names one open file for as long as it lives.
        let master = unsafe { AsyncFd::register(master) }?;
        Ok(Self(Arc::new(master)))
    }

    /// Changes its size.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open for as long as `self`, and the kernel reads one `winsize`.
        unsafe { set_window_size(self.0.as_raw_fd(), &raw const size) }?;
        Ok(())
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let read = guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), buf.initialize_unfilled())?));
            match read {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Nobody holds the other side any more: the end, for a terminal.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), buf)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no end of input but the one its user types.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A socket that a terminal is sent through; its file goes with it.
pub(super) struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    /// Binds it. The path may be longer than a socket's address: it is bound from its directory's descriptor.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let dir = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
        let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
        let listener = UnixListener::bind(short.join(path.file_name().unwrap_or_default()))?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Waits for the terminal.
    pub(super) async fn receive(&self) -> io::Result<Terminal> {
        let (stream, _) = self.listener.accept().await?;
        let master = stream.async_io(Interest::READABLE, || receive_descriptor(&stream)).await?;
        Terminal::new(master)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn receive_descriptor(stream: &tokio::net::UnixStream) -> io::Result<OwnedFd> {
    let (mut bytes, mut space) = ([0; 256], nix::cmsg_space!([std::os::fd::RawFd; 1]));
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let number = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
        _ => None,
    });
    let number = number.ok_or(Errno::EBADMSG)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
