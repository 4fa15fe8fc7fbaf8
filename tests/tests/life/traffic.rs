//! Numbered datagrams and kept connections between two pods, all echoed: the sender alone knows what came back.
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::namespaces::Namespace;

/// Datagrams in a second.
pub(crate) const RATE: u64 = 10_000;
/// Connections; every other one goes to the Service.
pub(crate) const CONNECTIONS: usize = 200;
/// Threads that keep them.
const KEEPERS: usize = 4;
const PORT: u16 = 8080;
const BUFFER: usize = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Traffic that runs until it is ended.
pub(crate) struct Traffic {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    came_back: Arc<Mutex<Vec<bool>>>,
    exchanges: Arc<AtomicU64>,
    broken: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of it.
pub(crate) struct Result {
    came_back: Vec<bool>,
    /// What broke connections.
    pub(crate) broken: Vec<String>,
}

impl Result {
    /// Datagrams of a range of numbers that never came back.
    pub(crate) fn lost(&self, from: u64, to: u64) -> usize {
        (from..to).filter(|number| !self.came_back.get(*number as usize).copied().unwrap_or(false)).count()
    }
}

/// Serves both in a pod.
pub(crate) fn serve(pod: &Namespace, address: Ipv4Addr) {
    let listener = pod.within(move || TcpListener::bind((address, PORT)).expect("a port"));
    let socket = pod.within(move || UdpSocket::bind((address, PORT)).expect("a port"));
    setsockopt(&socket, RcvBufForce, &BUFFER).expect("root");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(std::result::Result::ok) {
            thread::spawn(move || echo(stream));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
}

impl Traffic {
    /// From a pod to the server: datagrams to its address, connections to that and to the Service.
    pub(crate) fn start(client: &Namespace, server: Ipv4Addr, service: Ipv4Addr) -> Traffic {
        let mut traffic = Traffic {
            end: Arc::default(),
            sent: Arc::default(),
            came_back: Arc::default(),
            exchanges: Arc::default(),
            broken: Arc::default(),
            threads: Vec::new(),
        };
        let socket = client.within(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
        socket.connect((server, PORT)).expect("connected");
        setsockopt(&socket, RcvBufForce, &BUFFER).expect("root");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        traffic.receive(socket.try_clone().expect("a copy"));
        traffic.send(socket);
        for keeper in 0..KEEPERS {
            let to = move |number: usize| match number % 2 {
                0 => SocketAddr::from((server, PORT)),
                _ => SocketAddr::from((service, 80)),
            };
            let connect = move || -> Vec<TcpStream> {
                let mine = (0..CONNECTIONS).filter(|number| number % KEEPERS == keeper);
                mine.map(|number| TcpStream::connect(to(number / KEEPERS)).expect("connected")).collect()
            };
            let streams = client.within(connect);
            traffic.keep(streams);
        }
        traffic
    }

    fn send(&mut self, socket: UdpSocket) {
        let (end, sent) = (self.end.clone(), self.sent.clone());
        self.threads.push(thread::spawn(move || {
            let begun = Instant::now();
            while !end.load(Ordering::Relaxed) {
                // What is due by now: a thread that the machine held up catches up.
                let due = begun.elapsed().as_micros() as u64 * RATE / 1_000_000;
                let number = sent.load(Ordering::Relaxed);
                for number in number..due {
                    socket.send(&number.to_be_bytes()).expect("sent");
                    sent.store(number + 1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_micros(300));
            }
        }));
    }

    fn receive(&mut self, socket: UdpSocket) {
        let (end, seen) = (self.end.clone(), self.came_back.clone());
        self.threads.push(thread::spawn(move || {
            let mut bytes = [0; 8];
            loop {
                match socket.recv(&mut bytes) {
                    Ok(8) => {
                        let number = u64::from_be_bytes(bytes) as usize;
                        let mut seen = seen.lock().expect("no panic");
                        if seen.len() <= number {
                            seen.resize(number + 1, false);
                        }
                        seen[number] = true;
                    }
                    // Nothing more comes of what was sent.
                    Err(error) if error.kind() == ErrorKind::WouldBlock && end.load(Ordering::Relaxed) => return,
                    _ => {}
                }
            }
        }));
    }

    fn keep(&mut self, mut streams: Vec<TcpStream>) {
        let (end, exchanges, broken) = (self.end.clone(), self.exchanges.clone(), self.broken.clone());
        self.threads.push(thread::spawn(move || {
            for stream in &streams {
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                stream.set_nodelay(true).expect("set");
            }
            while !end.load(Ordering::Relaxed) {
                streams.retain_mut(|stream| match exchange(stream) {
                    Ok(()) => {
                        exchanges.fetch_add(1, Ordering::Relaxed);
                        true
                    }
                    Err(error) => {
                        let who = (stream.local_addr(), stream.peer_addr());
                        broken.lock().expect("no panic").push(format!("{who:?}: {error}"));
                        false
                    }
                });
                thread::sleep(Duration::from_millis(20));
            }
        }));
    }

    /// Datagrams sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more datagrams have come back, and every connection has exchanged data twice.
    pub(crate) fn goes_on(&self, datagrams: u64) {
        let deadline = Instant::now() + 3 * PATIENCE;
        let (exchanges, until) = (self.exchanges.load(Ordering::Relaxed), self.sent() + datagrams);
        let done = || {
            let last = self.came_back.lock().expect("no panic").len() as u64;
            let exchanged = self.exchanges.load(Ordering::Relaxed) - exchanges;
            last >= until && exchanged >= 2 * CONNECTIONS as u64
        };
        while !done() {
            let broken = self.broken.lock().expect("no panic").clone();
            assert!(broken.is_empty() && Instant::now() < deadline, "traffic stands still; broken: {broken:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops, and waits for what is on its way.
    pub(crate) fn end(mut self) -> Result {
        self.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("no panic"));
        let came_back = std::mem::take(&mut *self.came_back.lock().expect("no panic"));
        let broken = std::mem::take(&mut *self.broken.lock().expect("no panic"));
        Result { came_back, broken }
    }
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [7; 64];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}

/// Datagrams that full socket buffers of a pod refused: carried, and lost by a machine that was too busy.
pub(crate) fn refused(pod: &Namespace) -> u64 {
    let table = pod.within(|| std::fs::read_to_string("/proc/thread-self/net/udp").expect("a table"));
    table.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// Packets that the kernel's own queues between devices refused, on the whole machine.
pub(crate) fn backlog() -> u64 {
    let table = std::fs::read_to_string("/proc/net/softnet_stat").expect("a table");
    let dropped = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    table.lines().filter_map(dropped).sum()
}
