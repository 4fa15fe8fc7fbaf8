//! The client: one question, bounded in time, and what came of it.
use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{Proto, Report, Seen, Target, ping};

/// Longest answer that is read, in bytes.
const ANSWER: usize = 1024;

/// Dials until an answer or a refusal comes, at most `tries` times.
pub async fn dial(target: &Target) -> Report {
    let mut report = Report { ok: false, error: Some("no try was allowed".into()), seen: None };
    for _ in 0..target.tries {
        report = once(target).await;
        if report.ok || report.error.as_deref() == Some("refused") {
            break;
        }
    }
    report
}

async fn once(target: &Target) -> Report {
    let address = SocketAddr::new(target.host, target.port);
    let patience = Duration::from_millis(target.timeout_ms);
    let outcome = match target.proto {
        Proto::Tcp => timeout(patience, tcp(address)).await.map(|seen| seen.map(Some)),
        Proto::Connect => timeout(patience, TcpStream::connect(address)).await.map(|done| done.map(|_| None)),
        Proto::Udp => timeout(patience, udp(address)).await.map(|seen| seen.map(Some)),
        Proto::Icmp => timeout(patience, ping::echo(target.host)).await.map(|done| done.map(|()| None)),
    };
    match outcome {
        Ok(Ok(seen)) => Report { ok: true, error: None, seen },
        Ok(Err(error)) => Report { ok: false, error: Some(describe(&error)), seen: None },
        Err(_) => Report { ok: false, error: Some("timeout".into()), seen: None },
    }
}

async fn tcp(address: SocketAddr) -> io::Result<Seen> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(b"who\n").await?;
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    parse(&line)
}

async fn udp(address: SocketAddr) -> io::Result<Seen> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(b"who\n").await?;
    let mut buffer = [0; ANSWER];
    let length = socket.recv(&mut buffer).await?;
    parse(&buffer[..length])
}

fn parse(line: &[u8]) -> io::Result<Seen> {
    serde_json::from_slice(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable".into(),
        _ => error.to_string(),
    }
}
