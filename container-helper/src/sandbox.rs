//! A pod's namespaces, made in this process and pinned as files.
//!
//! The process leaves its network, host-name and ipc namespaces for new ones and binds them over files in the mount
//! namespace it was started in, then exits: no pause process is left to keep them. Addresses and routes are the CNI
//! plugin's business; here only `lo` comes up.
#![expect(unsafe_code, reason = "bringing lo up is an ioctl on a network device")]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// What `sandbox` was asked for.
#[derive(Debug, Default, PartialEq)]
struct Request {
    hostname: Option<String>,
    sysctls: Vec<(String, String)>,
    pins: Vec<(String, String)>,
}

/// Makes the namespaces and pins them. Prints what failed and returns 1 on an error.
pub(crate) fn make(words: &[String]) -> i32 {
    let Some(request) = parse(words) else {
        eprintln!("sandbox: --hostname H, --sysctl K=V and --pin net|uts|ipc=PATH are understood");
        return 2;
    };
    match apply(&request) {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

fn parse(words: &[String]) -> Option<Request> {
    let mut request = Request::default();
    for pair in words.chunks(2) {
        let [flag, value] = pair else { return None };
        match (flag.as_str(), value.split_once('=')) {
            ("--hostname", _) => request.hostname = Some(value.clone()),
            ("--sysctl", Some((key, value))) => request.sysctls.push((key.to_owned(), value.to_owned())),
            ("--pin", Some((kind, path))) => {
                kind_flag(kind)?;
                request.pins.push((kind.to_owned(), path.to_owned()));
            }
            _ => return None,
        }
    }
    Some(request)
}

fn kind_flag(kind: &str) -> Option<CloneFlags> {
    match kind {
        "net" => Some(CloneFlags::CLONE_NEWNET),
        "uts" => Some(CloneFlags::CLONE_NEWUTS),
        "ipc" => Some(CloneFlags::CLONE_NEWIPC),
        _ => None,
    }
}

fn apply(request: &Request) -> io::Result<()> {
    let flags = request.pins.iter().filter_map(|(kind, _)| kind_flag(kind)).collect();
    unshare(flags).map_err(|error| named("unshare", &error.into()))?;
    if let Some(hostname) = &request.hostname {
        nix::unistd::sethostname(hostname).map_err(|error| named("sethostname", &error.into()))?;
    }
    if flags.contains(CloneFlags::CLONE_NEWNET) {
        loopback_up().map_err(|error| named("bring lo up", &error))?;
    }
    for (key, value) in &request.sysctls {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        fs::write(&file, value).map_err(|error| named(&format!("set sysctl {key}={value}"), &error))?;
    }
    request.pins.iter().try_for_each(|(kind, path)| pin(kind, Path::new(path)))
}

/// Binds this process's namespace over a file, so that it lives on without a process.
fn pin(kind: &str, path: &Path) -> io::Result<()> {
    let what = format!("pin {kind} namespace at {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| named(&what, &error))?;
    }
    fs::File::create(path).map_err(|error| named(&what, &error))?;
    let source = format!("/proc/self/ns/{kind}");
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| named(&what, &error.into()))
}

fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero `ifreq` is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open and `request` is a whole `ifreq` that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: Option<&Request>) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        assert_eq!(parse(&words).as_ref(), expected);
    }

    #[test]
    fn arguments() {
        check(&[], Some(&Request::default()));
        let hostname = Some("web-0".to_owned());
        check(&["--hostname", "web-0"], Some(&Request { hostname, ..Request::default() }));
        let pins = vec![("net".to_owned(), "/run/netns/a".to_owned())];
        check(&["--pin", "net=/run/netns/a"], Some(&Request { pins, ..Request::default() }));
        check(&["--pin", "mnt=/x"], None);
        check(&["--pin"], None);
        check(&["--other", "x"], None);
    }
}
