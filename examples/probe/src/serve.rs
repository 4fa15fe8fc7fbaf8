//! The server: TCP and UDP answer who they are; HTTP on the control port answers health, dials on request, and starts and
//! stops numbered traffic.
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    Report, Seen, Target, dial,
    sequence::{self, Outcome, Plan},
};

/// TCP connections served at a time.
const CONNECTIONS: usize = 512;
/// Longest question, in bytes.
const QUESTION: u64 = 256;
/// How long a TCP client may take for its question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where to serve.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Address of all three.
    pub listen: IpAddr,
    /// TCP echo.
    pub tcp: u16,
    /// UDP echo.
    pub udp: u16,
    /// Control.
    pub http: u16,
    /// Echo of numbered traffic, TCP and UDP.
    pub echo: u16,
}

/// Numbered traffic that this probe sends now: what ends it, and what it will have seen.
#[derive(Default)]
struct Traffic(Mutex<Option<Running>>);

type Running = (watch::Sender<bool>, JoinHandle<io::Result<Outcome>>);

/// Who answers.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the pod.
    pub pod: String,
    /// Name of its node.
    pub node: String,
}

impl Place {
    fn answer(&self, client: SocketAddr) -> Vec<u8> {
        let client = client.ip().to_canonical().to_string();
        let seen = Seen { pod: self.pod.clone(), node: self.node.clone(), client };
        let mut line = serde_json::to_vec(&seen).expect("strings always serialise");
        line.push(b'\n');
        line
    }
}

/// Serves on all three ports until SIGTERM.
///
/// # Errors
/// A port that cannot be bound.
pub async fn until_terminated(ports: Ports, place: Place) -> io::Result<()> {
    let place = Arc::new(place);
    let tcp = TcpListener::bind((ports.listen, ports.tcp)).await?;
    let udp = UdpSocket::bind((ports.listen, ports.udp)).await?;
    let control = TcpListener::bind((ports.listen, ports.http)).await?;
    let echo =
        (TcpListener::bind((ports.listen, ports.echo)).await?, UdpSocket::bind((ports.listen, ports.echo)).await?);
    let Ports { listen, tcp: asked, udp: told, http, echo: back } = ports;
    eprintln!("probe: tcp {asked}, udp {told}, http {http}, echo {back} on {listen}");
    tokio::spawn(sequence::echo(echo.0, echo.1));
    tokio::spawn(serve_tcp(tcp, Arc::clone(&place)));
    tokio::spawn(serve_udp(udp, Arc::clone(&place)));
    tokio::spawn(serve_http(control));
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

/// Answers on TCP for ever.
pub async fn serve_tcp(listener: TcpListener, place: Arc<Place>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            // A client that goes away is no concern of ours.
            let _ = tokio::time::timeout(PATIENCE, converse(stream, client, &place)).await;
            drop(slot);
        });
    }
}

/// One answer per line, so that a client may keep its connection and ask again.
async fn converse(stream: TcpStream, client: SocketAddr, place: &Place) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(QUESTION));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&place.answer(client)).await?;
        line.clear();
        reader.get_mut().set_limit(QUESTION);
    }
    Ok(())
}

/// Answers on UDP for ever.
pub async fn serve_udp(socket: UdpSocket, place: Arc<Place>) {
    let mut buffer = [0; QUESTION as usize];
    loop {
        if let Ok((_, client)) = socket.recv_from(&mut buffer).await {
            // A lost answer is the network's to show.
            let _ = socket.send_to(&place.answer(client), client).await;
        }
    }
}

async fn serve_http(listener: TcpListener) {
    let traffic = Arc::new(Traffic::default());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let traffic = Arc::clone(&traffic);
        let service = service_fn(move |request| {
            let traffic = Arc::clone(&traffic);
            async move { control(request, &traffic).await }
        });
        tokio::spawn(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service));
    }
}

async fn control(request: Request<Incoming>, traffic: &Traffic) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let (status, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".into()),
        "/dial" => match parse::<Target>(query) {
            Ok(target) => (StatusCode::OK, json(&dial::dial(&target).await)),
            Err(problem) => (StatusCode::BAD_REQUEST, problem),
        },
        "/sequence/start" => match parse::<Plan>(query) {
            Ok(plan) => traffic.start(plan),
            Err(problem) => (StatusCode::BAD_REQUEST, problem),
        },
        "/sequence/stop" => traffic.stop().await,
        "/overflow" => match query.parse() {
            Ok(port) => (StatusCode::OK, sequence::overflow(port).to_string()),
            Err(_) => (StatusCode::BAD_REQUEST, "expected /overflow?PORT\n".into()),
        },
        _ => (StatusCode::NOT_FOUND, "/healthz, /dial, /sequence/start, /sequence/stop, /overflow are here\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}

impl Traffic {
    /// What ran before ends without a report.
    fn start(&self, plan: Plan) -> (StatusCode, String) {
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(sequence::run(plan, stopped));
        *self.0.lock().expect("no holder panics") = Some((stop, running));
        (StatusCode::OK, "started\n".into())
    }

    async fn stop(&self) -> (StatusCode, String) {
        let Some((stop, running)) = self.0.lock().expect("no holder panics").take() else {
            return (StatusCode::CONFLICT, "nothing was started\n".into());
        };
        stop.send_replace(true);
        match running.await {
            Ok(Ok(outcome)) => (StatusCode::OK, serde_json::to_string(&outcome).expect("an outcome always serialises")),
            Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn json(report: &Report) -> String {
    serde_json::to_string(report).expect("a report always serialises")
}

/// `proto=udp&host=10.0.0.1&port=8081`; no value needs escaping.
fn parse<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let object = pairs.map(|(key, value)| {
        let number = value.parse::<u64>().map(serde_json::Value::from);
        (key.to_owned(), number.unwrap_or_else(|_| value.into()))
    });
    serde_json::from_value(serde_json::Value::Object(object.collect())).map_err(|error| format!("{query}: {error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Proto;

    #[test]
    fn queries() {
        let found = parse::<Target>("proto=udp&host=10.0.0.1&port=8081&tries=3").unwrap();
        assert_eq!((found.proto, found.port, found.tries, found.timeout_ms), (Proto::Udp, 8081, 3, 1000));
        assert!(parse::<Target>("proto=sctp&host=10.0.0.1").unwrap_err().contains("sctp"));
        assert!(parse::<Target>("host=example.org&proto=tcp").is_err());
    }

    #[tokio::test]
    async fn a_dialled_server_says_who_saw_whom() {
        let place = Arc::new(Place { pod: "a".into(), node: "n".into() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve_tcp(listener, place));
        let host = "127.0.0.1".parse().unwrap();
        let report = dial::dial(&Target { proto: Proto::Tcp, host, port, timeout_ms: 1000, tries: 1 }).await;
        assert_eq!(report.seen.unwrap(), Seen { pod: "a".into(), node: "n".into(), client: "127.0.0.1".into() });
    }
}
