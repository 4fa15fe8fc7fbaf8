//! A client and a server in namespaces: bytes there and back, and whom the server saw.
use nix::sched::{CloneFlags, setns};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// One exchange over a protocol.
pub(crate) type Exchange = fn(&'static str, &'static str, &'static str, &'static str) -> io::Result<IpAddr>;

const PATIENCE: Duration = Duration::from_secs(5);
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
    let listener = within(server, move || TcpListener::bind(at)).join().unwrap()?;
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

/// Over UDP, a few datagrams; the service ports of the lab are the same for both.
pub(crate) fn udp(
    client: &'static str,
    server: &'static str,
    at: &'static str,
    to: &'static str,
) -> io::Result<IpAddr> {
    let socket = within(server, move || UdpSocket::bind(at)).join().unwrap()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let served = thread::spawn(move || -> io::Result<IpAddr> {
        let mut buffer = [0; 9000];
        let mut seen = None;
        for _ in SIZES {
            let (length, peer) = socket.recv_from(&mut buffer)?;
            socket.send_to(&buffer[..length], peer)?;
            seen = Some(peer.ip());
        }
        seen.ok_or_else(|| io::Error::other("nobody"))
    });
    let talk = within(client, move || -> io::Result<()> {
        let to: SocketAddr = to.parse().unwrap();
        let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 9000];
        for size in SIZES {
            socket.send(&payload()[..size])?;
            let length = socket.recv(&mut buffer)?;
            if buffer[..length] != payload()[..size] {
                return Err(io::Error::other(format!("{length} bytes came back")));
            }
        }
        Ok(())
    });
    talk.join().unwrap()?;
    served.join().unwrap()
}
