//! The exchanges: neither end ever sleeps.
use std::{
    hint::spin_loop,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket},
};

use super::lab::Path;
use crate::{
    report::quantile,
    space::{join, within},
};

/// What is exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Test {
    /// A byte there and a byte back, on one connection.
    Rr,
    /// A connection for each.
    Crr,
    /// A datagram there and one back.
    UdpRr,
    /// As much as goes.
    Stream,
}

/// All of them.
pub(crate) const TESTS: [Test; 4] = [Test::Rr, Test::Crr, Test::UdpRr, Test::Stream];

impl Test {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Test::Rr => "TCP_RR",
            Test::Crr => "TCP_CRR",
            Test::UdpRr => "UDP_RR",
            Test::Stream => "TCP stream",
        }
    }
}

/// The server's port.
pub(crate) const PORT: u16 = 8080;
/// The server's port behind a service. A port of its own: connections through a service and past it would else meet in the
/// server's TIME_WAIT with timestamps of two clocks (the client's depends on the address that it asks), and wait a second each.
pub(crate) const PORT_BEHIND: u16 = 8081;
/// Bytes of a write of the stream.
const CHUNK: usize = 128 * 1024;
/// Without an answer for so long, a datagram is lost.
const LOST: Duration = Duration::from_millis(20);
/// Without an answer for so long, the path is broken.
const BROKEN: Duration = Duration::from_secs(5);

/// The client's exchanges, one after another until their time is over.
struct Laps {
    begun: Instant,
    end: Duration,
    last: Duration,
    /// Nanoseconds of each.
    all: Vec<f64>,
}

impl Laps {
    fn new(end: Duration) -> Laps {
        Laps { begun: Instant::now(), end, last: Duration::ZERO, all: Vec::with_capacity(1 << 17) }
    }

    /// One is over; whether there is to be another.
    fn done(&mut self) -> bool {
        let now = self.begun.elapsed();
        self.all.push((now - self.last).as_nanos() as f64);
        self.last = now;
        now < self.end
    }

    /// How many in a second; `undisturbed`, if all had taken as long as those that nothing came between.
    fn rate(&self, undisturbed: bool) -> f64 {
        if undisturbed { 1e9 / quantile(&self.all, 0.25) } else { self.all.len() as f64 / self.last.as_secs_f64() }
    }
}

/// Transactions (or, for the stream, Gbit) in a second.
pub(crate) fn run(test: Test, path: &Path, time: Duration, undisturbed: bool) -> anyhow::Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, listening) = mpsc::channel();
    let served = stop.clone();
    let at = SocketAddrV4::new(path.address, if path.service.is_some() { PORT_BEHIND } else { PORT });
    let server = within(&path.server, Some(1), move || match test {
        Test::UdpRr => {
            let socket = UdpSocket::bind(at).context("the server's socket")?;
            ready.send(())?;
            echo(&socket, &served).map(|()| 0)
        }
        _ => {
            let listener = TcpListener::bind(at).context("the server's socket")?;
            listener.set_nonblocking(true)?;
            ready.send(())?;
            serve(test, &listener, &served)
        }
    })?;
    if listening.recv().is_err() {
        return join(server).map(|_| 0.0);
    }
    let to = path.service.unwrap_or(at);
    let client = within(&path.client, Some(0), move || {
        let begun = Instant::now();
        match test {
            Test::Rr => ask(to, time),
            Test::Crr => ask_anew(to, time),
            Test::UdpRr => ask_by_datagram(to, time),
            Test::Stream => {
                pour(to, time)?;
                return Ok(begun.elapsed().as_secs_f64());
            }
        }
        .map(|laps| laps.rate(undisturbed))
    })?;
    let asked = join(client);
    stop.store(true, Ordering::Relaxed);
    let bytes = join(server)?;
    let asked = asked?;
    Ok(if test == Test::Stream { bytes as f64 * 8e-9 / asked } else { asked })
}

/// Tries until it is done, or the path is broken.
fn spin<T>(what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> anyhow::Result<T> {
    let mut begun = None;
    loop {
        for _ in 0..4_096 {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => spin_loop(),
                Err(error) => return Err(error).with_context(|| what.to_owned()),
            }
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > BROKEN {
            bail!("{what}: nothing came for {} s", BROKEN.as_secs());
        }
    }
}

fn ended() -> io::Error {
    ErrorKind::UnexpectedEof.into()
}

/// One byte of a stream.
fn take(stream: &mut TcpStream) -> anyhow::Result<()> {
    spin("reading", || match stream.read(&mut [0]) {
        Ok(0) => Err(ended()),
        other => other,
    })
    .map(|_| ())
}

fn connected(to: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), BROKEN).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn ask(to: SocketAddrV4, time: Duration) -> anyhow::Result<Laps> {
    let mut stream = connected(to)?;
    let mut laps = Laps::new(time);
    loop {
        spin("writing", || stream.write(&[1]))?;
        take(&mut stream)?;
        if !laps.done() {
            return Ok(laps);
        }
    }
}

/// The server closes first, so that the client's ports are free again at once.
fn ask_anew(to: SocketAddrV4, time: Duration) -> anyhow::Result<Laps> {
    let mut laps = Laps::new(time);
    let address = SockaddrIn::from(to);
    loop {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
        match connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno).context("connecting"),
        }
        let mut stream = TcpStream::from(fd);
        spin("writing to a new connection", || stream.write(&[1]))?;
        take(&mut stream)?;
        spin("the end of a connection", || match stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("more than was asked for")),
            Err(error) => Err(error),
        })?;
        drop(stream);
        if !laps.done() {
            return Ok(laps);
        }
    }
}

fn ask_by_datagram(to: SocketAddrV4, time: Duration) -> anyhow::Result<Laps> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    let (mut laps, mut lost) = (Laps::new(time), 0);
    loop {
        spin("sending", || socket.send(&[1]))?;
        let sent = Instant::now();
        let mut tries = 0_u32;
        loop {
            match socket.recv(&mut [0; 8]) {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => spin_loop(),
                Err(error) => return Err(error).context("receiving"),
            }
            tries += 1;
            if tries.is_multiple_of(1_024) && sent.elapsed() > LOST {
                lost += 1;
                break;
            }
        }
        if lost > 100 {
            bail!("{lost} datagrams were lost");
        }
        if !laps.done() {
            return Ok(laps);
        }
    }
}

fn pour(to: SocketAddrV4, time: Duration) -> anyhow::Result<()> {
    let mut stream = connected(to)?;
    let bytes = vec![7; CHUNK];
    let begun = Instant::now();
    while begun.elapsed() < time {
        spin("writing", || stream.write(&bytes))?;
    }
    Ok(())
}

/// The server's side of connections, until told to end; bytes that came.
fn serve(test: Test, listener: &TcpListener, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let mut buffer = vec![0; 2 * CHUNK];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("accepting"),
        };
        stream.set_nonblocking(true)?;
        if test != Test::Crr {
            stream.set_nodelay(true)?;
        }
        while !stop.load(Ordering::Relaxed) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    spin_loop();
                    continue;
                }
                Err(_) => break, // The client has gone.
            }
            if test != Test::Stream && stream.write(&[1]).is_err() {
                break;
            }
            if test == Test::Crr {
                break;
            }
        }
    }
    Ok(bytes)
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    let mut buffer = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, peer)) => drop(socket.send_to(&buffer[..length], peer)),
            Err(_) => spin_loop(),
        }
    }
    Ok(())
}
