//! Whether the network between two nodes carries what its ends promise: echo requests of full size that nobody may split.
//!
//! A node whose device has a smaller MTU, or a switch in between, swallows what is too large for it without a word. So
//! every other node is asked at the full size of the route; where that goes unanswered and a small one does not, the largest
//! size that is answered is searched for. A node that answers no echo at all stays unknown, which is no mismatch.
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto, socket,
    },
};

use super::Path;
use crate::Shared;

mod echo;

/// Between two rounds when nothing changes.
const AGAIN: Duration = Duration::from_secs(600);
/// An answer takes no longer, or it is taken for lost.
const PATIENCE: Duration = Duration::from_millis(300);
/// A size is too large if that many requests are lost.
const TRIES: u32 = 3;
/// Nodes that are asked at the same time.
const AT_ONCE: usize = 64;
/// A size that every IPv4 host takes (RFC 1122): what does not answer this answers nothing.
const SMALL: u32 = 576;

/// Measures every path after it changed, and now and then.
pub async fn run(shared: Arc<Shared>) {
    let mut in_force = shared.in_force.clone();
    loop {
        let asked = routes(&shared);
        let own = shared.inbox.snapshot().node.own.clone();
        let list = asked.clone();
        match tokio::task::spawn_blocking(move || measure(&own, &list)).await {
            Ok(Ok(found)) => note(&shared, &asked, &found),
            Ok(Err(error)) => {
                tracing::info!(%error, "the paths to other nodes cannot be measured: this needs the capability NET_RAW");
            }
            Err(error) => tracing::warn!(%error, "the paths to other nodes could not be measured"),
        }
        let changed = async {
            while routes(&shared) == asked {
                if in_force.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let _ = tokio::time::timeout(AGAIN, changed).await;
    }
}

/// Address and MTU of the route, of every other node.
fn routes(shared: &Shared) -> Vec<(IpAddr, u32)> {
    shared.inbox.snapshot().paths.to.iter().map(|(address, path)| (*address, path.route)).collect()
}

fn note(shared: &Shared, asked: &[(IpAddr, u32)], found: &[Option<u32>]) {
    let mut paths = (*shared.inbox.snapshot().paths).clone();
    for ((address, route), measured) in asked.iter().zip(found) {
        if let Some(path) = paths.to.get_mut(address).filter(|path| path.route == *route) {
            *path = Path { route: *route, measured: *measured };
        }
    }
    shared.inbox.change(|state| {
        if *state.paths != paths {
            // Routes may have been read anew meanwhile.
            let mut now = (*state.paths).clone();
            now.remember(&paths);
            state.paths = Arc::new(now);
        }
    });
}

/// The largest size that is answered, by node; none if nothing is.
fn measure(own: &[IpAddr], nodes: &[(IpAddr, u32)]) -> Result<Vec<Option<u32>>, Errno> {
    let mut found = Vec::new();
    for some in nodes.chunks(AT_ONCE) {
        let mut searches: Vec<Search> = some.iter().map(|(to, route)| Search::new(*to, *route)).collect();
        for v4 in [true, false] {
            let from = own.iter().copied().find(|ip| ip.is_ipv4() == v4);
            if let Some(from) = from.filter(|_| searches.iter().any(|search| search.to.is_ipv4() == v4)) {
                let mut wire = Wire::open(from)?;
                while wire.round(&mut searches)? {}
            }
        }
        found.extend(searches.iter().map(Search::result));
    }
    Ok(found)
}

/// What is known of one path: the largest size that was answered, the least that was not.
#[derive(Debug)]
struct Search {
    to: IpAddr,
    route: u32,
    good: u32,
    bad: u32,
    lost: u32,
}

impl Search {
    fn new(to: IpAddr, route: u32) -> Search {
        Search { to, route, good: 0, bad: route.saturating_add(1), lost: 0 }
    }

    /// The next size to try, if there is one: first the route's, then a small one, then halves.
    fn next(&self) -> Option<u32> {
        match self.good {
            0 if self.bad > self.route => Some(self.route),
            0 => (self.bad > SMALL).then_some(SMALL),
            good => (self.bad - good > 1).then(|| good.midpoint(self.bad)),
        }
    }

    fn heard(&mut self, size: u32) {
        (self.good, self.lost) = (self.good.max(size), 0);
    }

    fn missed(&mut self, size: u32) {
        self.lost += 1;
        if self.lost >= TRIES {
            (self.bad, self.lost) = (self.bad.min(size), 0);
        }
    }

    fn result(&self) -> Option<u32> {
        (self.good != 0).then_some(self.good)
    }
}

/// A request on its way.
struct Asked {
    /// Whose search it is.
    index: usize,
    size: u32,
    sequence: u16,
}

/// Sockets of one family.
struct Wire {
    from: IpAddr,
    out: OwnedFd,
    back: OwnedFd,
    id: u16,
    sequence: u16,
}

impl Wire {
    fn open(from: IpAddr) -> Result<Wire, Errno> {
        let (family, protocol) = match from {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // With this protocol the network header is ours, and so is its flag that nobody may split the packet.
        let out = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
        let back = socket(family, SockType::Raw, flags, protocol)?;
        Ok(Wire { from, out, back, id: (std::process::id() & 0xffff) as u16, sequence: 0 })
    }

    /// One request to each node that is not done; false if all are.
    fn round(&mut self, searches: &mut [Search]) -> Result<bool, Errno> {
        let mut asked = Vec::new();
        for (index, search) in searches.iter().enumerate() {
            let Some(size) = search.next().filter(|_| search.to.is_ipv4() == self.from.is_ipv4()) else { continue };
            self.sequence = self.sequence.wrapping_add(1);
            self.send(search.to, size);
            asked.push(Asked { index, size, sequence: self.sequence });
        }
        if asked.is_empty() {
            return Ok(false);
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|_| !asked.is_empty()) {
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            poll(&mut [PollFd::new(self.back.as_fd(), PollFlags::POLLIN)], timeout)?;
            while let Some((from, sequence)) = self.receive() {
                let is = |one: &Asked| one.sequence == sequence && searches[one.index].to == from;
                if let Some(at) = asked.iter().position(is) {
                    let one = asked.swap_remove(at);
                    searches[one.index].heard(one.size);
                }
            }
        }
        asked.iter().for_each(|one| searches[one.index].missed(one.size));
        Ok(true)
    }

    /// What the kernel refuses to send (no route; its own device has become smaller) does not come through either.
    fn send(&self, to: IpAddr, size: u32) {
        let packet = echo::request(self.from, to, size, (self.id, self.sequence));
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        let _ = sendto(self.out.as_raw_fd(), &packet, &to, MsgFlags::empty());
    }

    /// Who answered which of our requests; none if nothing is waiting.
    fn receive(&self) -> Option<(IpAddr, u16)> {
        let mut bytes = [0; 128];
        loop {
            let (length, from) = recvfrom::<SockaddrStorage>(self.back.as_raw_fd(), &mut bytes).ok()?;
            let from = from.and_then(|from| address(&from));
            let sequence = echo::answer(bytes.get(..length).unwrap_or(&bytes), self.from.is_ipv4(), self.id);
            if let (Some(from), Some(sequence)) = (from, sequence) {
                return Some((from, sequence));
            }
        }
    }
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| from.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::Search;

    /// A path that carries this much, of a route that promises so much more: what is found, and in how many requests.
    #[track_caller]
    fn check(route: u32, carries: u32, found: Option<u32>, most: u32) {
        let mut search = Search::new([192, 0, 2, 1].into(), route);
        let mut requests = 0;
        while let Some(size) = search.next() {
            requests += 1;
            if size <= carries { search.heard(size) } else { search.missed(size) }
        }
        assert_eq!(search.result(), found);
        assert!(requests <= most, "{requests} requests");
    }

    #[test]
    fn the_largest_size_is_found() {
        check(1_500, 1_500, Some(1_500), 1);
        check(1_500, 9_000, Some(1_500), 1);
        check(1_500, 1_400, Some(1_400), 40);
        check(9_000, 1_500, Some(1_500), 50);
        check(1_500, 576, Some(576), 40);
        check(1_500, 0, None, 6);
    }
}
