//! What a cluster must leave as it found it: the host's links, addresses, routes, rules, sysctls and listeners.
//!
//! Read before, during and after, and compared line by line. Counters, timers and dynamic neighbours are left out: they
//! change by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use futures::TryStreamExt as _;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder, new_connection};

/// One reading of the host's network state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    lines: BTreeSet<String>,
}

/// A reading that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("opening a netlink socket")]
    Socket(#[source] io::Error),
    /// A dump.
    #[error("reading the host's {0}")]
    Dump(&'static str, #[source] Box<rtnetlink::Error>),
}

impl HostState {
    /// Reads the namespace of the calling thread, on a thread of its own: the caller may be inside a runtime.
    pub fn read() -> Result<HostState, Error> {
        let mut lines = std::thread::scope(|scope| match scope.spawn(netlink_lines).join() {
            Ok(lines) => lines,
            Err(panic) => std::panic::resume_unwind(panic),
        })?;
        sysctls(Path::new("/proc/sys"), &mut lines);
        listeners(&mut lines);
        Ok(HostState { lines })
    }

    /// Writes the reading, a line each.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        fs::write(path, self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n"))
    }

    /// Reads what `save` wrote.
    pub fn load(path: &Path) -> io::Result<HostState> {
        Ok(HostState { lines: fs::read_to_string(path)?.lines().map(str::to_owned).collect() })
    }

    /// `changes`, but for what the cluster of this name cannot have done: it closes nobody's listeners, and opens only those
    /// that its own processes hold. Other programs come and go on the same machine.
    pub fn changes_by(&self, later: &HostState, cluster: &str) -> Vec<String> {
        let owner = format!(" of cluster {cluster}");
        let others = |change: &String| change[2..].starts_with("listener ") && !change.ends_with(&owner);
        self.changes(later).into_iter().filter(|change| !others(change)).collect()
    }

    /// What is in `self` and not in `later` (with `-`), and the other way round (with `+`).
    pub fn changes(&self, later: &HostState) -> Vec<String> {
        let gone = self.lines.difference(&later.lines).map(|line| format!("- {line}"));
        gone.chain(later.lines.difference(&self.lines).map(|line| format!("+ {line}"))).collect()
    }
}

fn netlink_lines() -> Result<BTreeSet<String>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Socket)?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().map_err(Error::Socket)?;
        tokio::spawn(connection);
        netlink(&handle).await
    })
}

async fn netlink(handle: &Handle) -> Result<BTreeSet<String>, Error> {
    let dump = |what| move |error| Error::Dump(what, Box::new(error));
    let mut lines = BTreeSet::new();
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(dump("links"))?;
    lines.extend(links.iter().map(link_line));
    let addresses: Vec<_> = handle.address().get().execute().try_collect().await.map_err(dump("addresses"))?;
    lines.extend(addresses.iter().map(|message| {
        let mut message = message.clone();
        // Lifetimes count down.
        message
            .attributes
            .retain(|attribute| !matches!(attribute, netlink_packet_route::address::AddressAttribute::CacheInfo(_)));
        format!("address {message:?}")
    }));
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let routes: Vec<_> = handle.route().get(family).execute().try_collect().await.map_err(dump("routes"))?;
        lines.extend(routes.iter().map(|message| {
            let mut message = message.clone();
            message
                .attributes
                .retain(|attribute| !matches!(attribute, netlink_packet_route::route::RouteAttribute::CacheInfo(_)));
            format!("route {message:?}")
        }));
    }
    for version in [IpVersion::V4, IpVersion::V6] {
        let rules: Vec<_> = handle.rule().get(version).execute().try_collect().await.map_err(dump("rules"))?;
        lines.extend(rules.iter().map(|message| format!("rule {message:?}")));
    }
    Ok(lines)
}

fn link_line(link: &LinkMessage) -> String {
    let mut name = "?";
    let mut details = Vec::new();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::Mtu(_)
            | LinkAttribute::Address(_)
            | LinkAttribute::Controller(_)
            | LinkAttribute::Qdisc(_) => {
                details.push(format!("{attribute:?}"));
            }
            _ => {}
        }
    }
    format!("link {} {name} {:?} {}", link.header.index, link.header.flags, details.join(" "))
}

/// Every readable setting but those that count or draw lots.
fn sysctls(directory: &Path, lines: &mut BTreeSet<String>) {
    const RESTLESS: [&str; 14] = [
        "kernel/random",
        "kernel/pty/nr",
        "kernel/ns_last_pid",
        "kernel/keys",
        "kernel/perf_event_max_sample_rate",
        "fs/file-nr",
        "fs/inode-nr",
        "fs/inode-state",
        "fs/dentry-state",
        "fs/quota",
        "fs/aio-nr",
        "net/netfilter/nf_conntrack_count",
        "debug",
        "vm/stat_refresh",
    ];
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.strip_prefix("/proc/sys").unwrap_or(&path).to_string_lossy().into_owned();
        if RESTLESS.iter().any(|restless| name.starts_with(restless)) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sysctls(&path, lines);
        } else if let Ok(value) = fs::read(&path) {
            lines.insert(format!("sysctl {name} = {}", String::from_utf8_lossy(&value).trim().replace('\n', " ")));
        }
    }
}

/// TCP listeners and bound UDP sockets below the ephemeral ports, with the program that owns them.
fn listeners(lines: &mut BTreeSet<String>) {
    let owners = socket_owners();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, seen, ..] = fields[..] else { continue };
            let Some(inode) = fields.get(9) else { continue };
            let Some((address, port)) = local.split_once(':') else { continue };
            let port = u16::from_str_radix(port, 16).unwrap_or_default();
            if seen != state || (state == "07" && port >= 32768) {
                continue;
            }
            let owner = owners.get(*inode).map_or("?", String::as_str);
            lines.insert(format!("listener {table} {} port {port} of {owner}", readable(address)));
        }
    }
}

/// `/proc/net` prints addresses as hexadecimal words in the host's byte order.
fn readable(address: &str) -> String {
    match u32::from_str_radix(address, 16) {
        Ok(word) if address.len() == 8 => std::net::Ipv4Addr::from(word.to_ne_bytes()).to_string(),
        _ => address.to_owned(),
    }
}

/// Socket inode → program, for the processes that we may look into.
fn socket_owners() -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let groups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        let owner = match cluster_of(&groups) {
            Some(cluster) => format!("{} of cluster {cluster}", name.trim()),
            None => name.trim().to_owned(),
        };
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
                owners.insert(inode.to_owned(), owner.clone());
            }
        }
    }
    owners
}

/// The local cluster whose cgroup a process is in, from its `/proc/<pid>/cgroup`.
fn cluster_of(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.split_once("/weft/")?.1.split('/').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters() {
        assert_eq!(cluster_of("4:cpu:/weft/a/node-1/system\n0::/\n"), Some("a"));
        assert_eq!(cluster_of("4:cpu:/user/weft\n0::/\n"), None);
    }

    #[test]
    fn addresses() {
        assert_eq!(readable("0100007F"), "127.0.0.1");
        assert_eq!(readable("00000000000000000000000001000000"), "00000000000000000000000001000000");
    }

    #[test]
    fn a_new_listener_shows() {
        let before = HostState::read().expect("netlink");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("any port");
        let port = listener.local_addr().expect("bound").port();
        let changes = before.changes(&HostState::read().expect("netlink"));
        let line = format!("+ listener tcp 127.0.0.1 port {port} of ");
        assert!(changes.iter().any(|change| change.starts_with(&line)), "{changes:?}");
    }
}
