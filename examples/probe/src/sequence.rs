//! Numbered traffic, both ways: datagrams at a steady rate and connections that are kept, each message with a number
//! that the far end sends back. What does not come back is a gap, with its place in time.
//!
//! A datagram that a full receive buffer refused was carried by the network and lost by the machine: the kernel counts
//! those apart ([`overflow`]), and so does the report.
use std::{
    fs, io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

/// How long the last echoes may take.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a connection, or an answer on one, may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages on one connection follow each other by this.
const PERIOD: Duration = Duration::from_millis(250);
/// What is asked for a socket's buffers; the kernel caps it.
const BUFFER: usize = 4 << 20;

/// What to send, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Address of an echo, or of a Service before some.
    pub host: IpAddr,
    /// Its UDP port.
    pub udp: u16,
    /// Its TCP port.
    pub tcp: u16,
    /// Datagrams a second.
    pub per_second: u32,
    /// Connections.
    pub connections: u32,
}

/// What came of it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that did not come back.
    pub lost: u64,
    /// Of those, what our own full receive buffer refused.
    pub overflow: u64,
    /// Datagrams that came back twice.
    pub duplicates: u64,
    /// Datagrams that came back after a later one.
    pub reordered: u64,
    /// Where the lost ones were.
    pub gaps: Vec<Gap>,
    /// Messages answered on connections.
    pub answered: u64,
    /// What broke on connections, with the time in milliseconds since the start.
    pub broken: Vec<String>,
    /// The longest answer on a connection, in milliseconds.
    pub longest_ms: u64,
}

/// Consecutive datagrams that were lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// When the first was sent, in milliseconds since the start.
    pub at_ms: u64,
}

#[derive(Default)]
struct Seen {
    times: Vec<u8>,
    newest: u64,
    reordered: u64,
    duplicates: u64,
}

impl Seen {
    fn note(&mut self, number: u64) {
        let Ok(index) = usize::try_from(number) else { return };
        if self.times.len() <= index {
            self.times.resize(index + 1, 0);
        }
        match self.times[index] {
            0 if number < self.newest => self.reordered += 1,
            0 => {}
            _ => self.duplicates += 1,
        }
        self.newest = self.newest.max(number);
        self.times[index] = self.times[index].saturating_add(1);
    }

    fn has(&self, number: usize) -> bool {
        self.times.get(number).is_some_and(|times| *times > 0)
    }

    /// What of `sent` (the time of each) is missing.
    fn gaps(&self, sent: &[u64]) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for (index, at_ms) in sent.iter().enumerate().filter(|(index, _)| !self.has(*index)) {
            let number = index as u64;
            match gaps.last_mut() {
                Some(gap) if gap.last + 1 == number => gap.last = number,
                _ => gaps.push(Gap { first: number, last: number, at_ms: *at_ms }),
            }
        }
        gaps
    }
}

/// Sends until told to stop (or the other end of `stop` is gone), then waits for the last echoes.
///
/// # Errors
/// A socket that cannot be made.
pub async fn run(plan: Plan, stop: watch::Receiver<bool>) -> io::Result<Outcome> {
    let start = Instant::now();
    let tallies = Arc::new(Mutex::new(Outcome::default()));
    let mut connections = JoinSet::new();
    for number in 0..plan.connections {
        connections.spawn(keep(plan.clone(), number, start, stop.clone(), Arc::clone(&tallies)));
    }
    let udp = datagrams(&plan, start, stop).await?;
    connections.join_all().await;
    let tcp = tallies.lock().expect("no holder panics").clone();
    Ok(Outcome { answered: tcp.answered, broken: tcp.broken, longest_ms: tcp.longest_ms, ..udp })
}

async fn datagrams(plan: &Plan, start: Instant, mut stop: watch::Receiver<bool>) -> io::Result<Outcome> {
    let any = if plan.host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = Arc::new(UdpSocket::bind(any).await?);
    deepen(&socket);
    socket.connect((plan.host, plan.udp)).await?;
    let port = socket.local_addr()?.port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let receiver = tokio::spawn(receive(Arc::clone(&socket), Arc::clone(&seen)));
    let mut sent = Vec::new();
    let mut ticks = interval_at(start, Duration::from_secs(1) / plan.per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !*stop.borrow_and_update() && stop.has_changed().is_ok() {
        ticks.tick().await;
        let number = sent.len() as u64;
        sent.push(millis(start));
        // A refusal (ICMP) is told by the next call; the datagram it names is missing anyway.
        if socket.send(&number.to_be_bytes()).await.is_err() {
            let _ = socket.send(&number.to_be_bytes()).await;
        }
    }
    let deadline = Instant::now() + DRAIN;
    while !seen.lock().expect("no holder panics").gaps(&sent).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    receiver.abort();
    let seen = seen.lock().expect("no holder panics");
    let gaps = seen.gaps(&sent);
    let lost = gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
    let (reordered, duplicates) = (seen.reordered, seen.duplicates);
    Ok(Outcome {
        sent: sent.len() as u64,
        lost,
        overflow: overflow(port),
        duplicates,
        reordered,
        gaps,
        ..Outcome::default()
    })
}

async fn receive(socket: Arc<UdpSocket>, seen: Arc<Mutex<Seen>>) {
    let mut buffer = [0; 16];
    loop {
        // An error is a refusal of what was sent: nothing to note.
        if let Ok(8) = socket.recv(&mut buffer).await {
            let number = u64::from_be_bytes(buffer[..8].try_into().expect("eight bytes"));
            seen.lock().expect("no holder panics").note(number);
        }
    }
}

/// One connection: a number, the same number back, again and again; connected anew when it breaks.
async fn keep(plan: Plan, number: u32, start: Instant, mut stop: watch::Receiver<bool>, tallies: Arc<Mutex<Outcome>>) {
    let mut ticks = interval_at(start + PERIOD * number / plan.connections.max(1), PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stream, mut next) = (None, 0_u64);
    while !*stop.borrow_and_update() && stop.has_changed().is_ok() {
        ticks.tick().await;
        let began = Instant::now();
        let answer = timeout(PATIENCE, exchange(&mut stream, &plan, next)).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut tallies = tallies.lock().expect("no holder panics");
        let why = match answer {
            Ok(Ok(())) => {
                tallies.answered += 1;
                tallies.longest_ms = tallies.longest_ms.max(took);
                next += 1;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing for {} s", PATIENCE.as_secs()),
        };
        tallies.broken.push(format!("connection {number}, message {next}, at {} ms: {why}", millis(start)));
        (stream, next) = (None, 0);
    }
}

async fn exchange(stream: &mut Option<TcpStream>, plan: &Plan, number: u64) -> io::Result<()> {
    if stream.is_none() {
        let made = TcpStream::connect((plan.host, plan.tcp)).await?;
        made.set_nodelay(true)?;
        *stream = Some(made);
    }
    let stream = stream.as_mut().expect("made above");
    stream.write_all(&number.to_be_bytes()).await?;
    let mut back = [0; 8];
    stream.read_exact(&mut back).await?;
    let back = u64::from_be_bytes(back);
    if back == number { Ok(()) } else { Err(io::Error::other(format!("{back} came back for {number}"))) }
}

fn millis(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Sends every byte back, on UDP and on TCP, for ever.
pub async fn echo(tcp: TcpListener, udp: UdpSocket) {
    deepen(&udp);
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            if let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                // A lost echo is the network's to show.
                let _ = udp.send_to(&buffer[..length], client).await;
            }
        }
    });
    loop {
        let Ok((mut stream, _)) = tcp.accept().await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let (mut reader, mut writer) = stream.split();
            // A client that goes away is no concern of ours.
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

/// A stalled machine must not lose what the network carried.
fn deepen(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &BUFFER);
    }
}

/// Datagrams that full buffers of this network namespace's sockets on a port have refused.
pub fn overflow(port: u16) -> u64 {
    // A socket of the IPv6 wildcard takes IPv4 too and is in the second table only.
    let tables = ["udp", "udp6"].map(|table| format!("/proc/thread-self/net/{table}"));
    let texts = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let of_port = |line: &&str| {
        let local = line.split_whitespace().nth(1).and_then(|local| local.rsplit_once(':'));
        local.is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port))
    };
    let drops = |line: &str| line.split_whitespace().last().and_then(|word| word.parse::<u64>().ok());
    texts.iter().flat_map(|text| text.lines().skip(1)).filter(of_port).filter_map(drops).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrived: &[u64], sent: usize, expected: &[(u64, u64)], others: (u64, u64)) {
        let mut seen = Seen::default();
        arrived.iter().for_each(|number| seen.note(*number));
        let gaps: Vec<_> = seen.gaps(&vec![0; sent]).iter().map(|gap| (gap.first, gap.last)).collect();
        assert_eq!(gaps, expected);
        assert_eq!((seen.reordered, seen.duplicates), others);
    }

    #[test]
    fn what_is_missing_is_a_range() {
        check(&[0, 1, 2], 3, &[], (0, 0));
        check(&[0, 3], 6, &[(1, 2), (4, 5)], (0, 0));
        check(&[], 2, &[(0, 1)], (0, 0));
        check(&[0, 2, 1, 1], 3, &[], (1, 1));
    }

    #[tokio::test]
    async fn an_echo_loses_nothing() {
        let (tcp, udp) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (host, ports) =
            ([127, 0, 0, 1].into(), (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port()));
        tokio::spawn(echo(tcp, udp));
        let (stop, stopped) = watch::channel(false);
        let plan = Plan { host, udp: ports.0, tcp: ports.1, per_second: 500, connections: 3 };
        let running = tokio::spawn(run(plan, stopped));
        tokio::time::sleep(Duration::from_millis(600)).await;
        stop.send_replace(true);
        let outcome = running.await.unwrap().unwrap();
        assert_eq!((outcome.lost, outcome.duplicates, outcome.broken.len()), (0, 0, 0), "{outcome:?}");
        assert!(outcome.sent > 0 && outcome.answered >= 3, "{outcome:?}");
    }
}
