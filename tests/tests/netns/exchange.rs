//! A client and a server in namespaces: bytes there and back, and whom the server saw.
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// One exchange over a protocol.
pub(crate) type Exchange = fn(&'static str, &'static str, &'static str, &'static str) -> io::Result<IpAddr>;

const PATIENCE: Duration = Duration::from_secs(5);
/// Without an answer a datagram is sent once more.
const AGAIN: Duration = Duration::from_millis(300);
/// How long who answers looks for a question before it looks whether there will be more.
const GLANCE: Duration = Duration::from_millis(20);
/// Enough for large segments and several windows.
const BYTES: usize = 400_000;
/// Of datagrams; the last goes in pieces.
const SIZES: [usize; 4] = [1, 700, 1300, 8000];

/// Runs in a namespace, on a thread of its own.
pub(crate) fn within<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Over TCP; the server sends back what it got.
pub(crate) fn tcp(
    client: &'static str,
    server: &'static str,
    at: &'static str,
    to: &'static str,
) -> io::Result<IpAddr> {
    let listener = within(server, move || bound(|| TcpListener::bind(at))).join().unwrap()?;
    let served = thread::spawn(move || -> io::Result<IpAddr> {
        let (mut stream, peer) = accept(&listener)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(&bytes)?;
        Ok(peer.ip())
    });
    let echoed = within(client, move || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&payload())?;
        stream.shutdown(Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let echoed = echoed.join().unwrap()?;
    if echoed != payload() {
        return Err(io::Error::other(format!("{} bytes came back", echoed.len())));
    }
    served.join().unwrap()
}

/// A socket of the exchange before this one may still be open: in the child of another test's thread, which has not become
/// another program yet.
fn bound<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let start = std::time::Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                thread::yield_now();
            }
            done => return done,
        }
    }
}

/// `accept` with a deadline.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let start = std::time::Instant::now();
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                thread::yield_now();
            }
            Err(error) => return Err(error),
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok((stream, peer));
            }
        }
    }
}

fn payload() -> Vec<u8> {
    (0..BYTES).map(|index| (index * 7 % 251) as u8).collect()
}

/// Over UDP, a few datagrams; the service ports of the lab are the same for both. A datagram that gets no answer is sent
/// again: the first one, and the first answer, may be what a sender learns by how much the way carries. Who answers goes on
/// until the client is content, however long a busy machine keeps either from its turn.
pub(crate) fn udp(
    client: &'static str,
    server: &'static str,
    at: &'static str,
    to: &'static str,
) -> io::Result<IpAddr> {
    let socket = within(server, move || bound(|| UdpSocket::bind(at))).join().unwrap()?;
    socket.set_read_timeout(Some(GLANCE))?;
    let over = Arc::new(AtomicBool::new(false));
    let content = over.clone();
    let served = thread::spawn(move || -> io::Result<IpAddr> {
        let (mut buffer, mut seen) = ([0; 9000], Err(io::ErrorKind::TimedOut.into()));
        while !content.load(SeqCst) {
            match socket.recv_from(&mut buffer) {
                Ok((length, peer)) => {
                    socket.send_to(&buffer[..length], peer)?;
                    seen = Ok(peer.ip());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        seen
    });
    let talk = within(client, move || -> io::Result<()> {
        let to: SocketAddr = to.parse().unwrap();
        let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(AGAIN))?;
        SIZES.into_iter().try_for_each(|size| ask(&socket, size))
    });
    let talked = talk.join().unwrap();
    over.store(true, SeqCst);
    let served = served.join().unwrap();
    talked.and(served)
}

/// Sends a datagram until it comes back whole.
fn ask(socket: &UdpSocket, size: usize) -> io::Result<()> {
    let mut buffer = [0; 9000];
    let start = std::time::Instant::now();
    loop {
        let sent = socket.send(&payload()[..size]);
        let told = |error: &io::Error| {
            error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::EMSGSIZE as i32)
        };
        match sent.and_then(|_| socket.recv(&mut buffer)) {
            Ok(length) if buffer[..length] == payload()[..size] => return Ok(()),
            Ok(_) if start.elapsed() < PATIENCE => {} // The second answer to an earlier one.
            Ok(length) => return Err(io::Error::other(format!("{length} bytes came back"))),
            Err(error) if told(&error) && start.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
    }
}
