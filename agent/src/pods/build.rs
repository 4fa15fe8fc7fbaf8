//! How a pod's interface is made: by one thread, from the first request to the last.
//!
//! The kernel works in the thread that asks, so nobody is woken in between; and that thread ends in the pod's network
//! namespace. As soon as the device has a number the tables may know of it, so its policy is compiled meanwhile: before
//! the hooks are on it the device is down.
use std::{
    fs::File,
    io,
    net::IpAddr,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use abi::{config::GATEWAY_MAC, event::Hook};
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::{PodError, Use, attachment, interface};
use crate::{
    devices::quiet,
    engine::Inbox,
    ipam::Entry,
    load::Programs,
    netlink::{
        End, Link, NetlinkError,
        direct::{Direct, found},
        request::Request,
        tc,
    },
    netns::NetnsError,
};

/// An interface to be made, and what it takes.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) netns: File,
    pub(super) mtu: u32,
    pub(super) programs: Arc<Mutex<Programs>>,
    pub(super) inbox: Arc<Inbox>,
}

impl Job {
    /// Makes it, up and known to the tables.
    ///
    /// # Errors
    /// [`PodError`], and whether a packet can have met what is left of it.
    pub(super) async fn run(self) -> Result<Link, (Use, PodError)> {
        let (tell, told) = oneshot::channel();
        let path = PathBuf::from(&self.entry.netns);
        let work = move || {
            // Whoever waits does so until the end.
            let _ = tell.send(self.whole());
        };
        let failed = |source| PodError::Netns(NetnsError::Enter { path: path.clone(), source });
        let thread = thread::Builder::new().name("interface".into()).spawn(work);
        thread.map_err(|error| (Use::Never, failed(error)))?;
        let early = || (Use::Hardly, failed(io::Error::other("the thread for it ended early")));
        told.await.unwrap_or_else(|_| Err(early()))
    }

    fn whole(&self) -> Result<Link, (Use, PodError)> {
        let (host, link) = self.pair().map_err(|error| (Use::Never, error))?;
        self.inbox.attach(attachment(&self.entry, &link));
        self.finish(&host, &link).map_err(|error| (Use::Hardly, error))?;
        Ok(link)
    }

    /// Both ends, and the host's as the kernel made it.
    fn pair(&self) -> Result<(Direct, Link), PodError> {
        let Entry { device, ifname, .. } = &self.entry;
        self.programs.lock().expect("no holder panics").forget(device)?;
        let host = Direct::open()?;
        let near = End { name: device, mac: GATEWAY_MAC };
        let far = End { name: ifname, mac: interface::mac_of(&self.entry) };
        let pair =
            || host.ask(vec![Request::pair(&near, &far, self.mtu, Some(self.netns.as_fd())), Request::find(device)]);
        let mut made = pair();
        // Left by an agent that was killed between the device and here; or else the pod has such an interface.
        if made.as_ref().is_err_and(NetlinkError::exists)
            && let Some(left) = host.link(device)?
            && host.remove(&left)?
        {
            made = pair();
        }
        let link = match made {
            Err(error) if error.exists() => return Err(PodError::InterfaceExists(ifname.clone())),
            other => found(&other?).ok_or(PodError::Missing("the host's end"))?,
        };
        Ok((host, link))
    }

    /// Hooks first, then what the pod needs, and up last.
    fn finish(&self, host: &Direct, link: &Link) -> Result<(), PodError> {
        let Entry { ifname, addresses, netns, .. } = &self.entry;
        quiet(&link.name, false);
        self.hook(host, link)?;
        let entered = setns(&self.netns, CloneFlags::CLONE_NEWNET);
        entered.map_err(|errno| NetnsError::Enter { path: netns.into(), source: errno.into() })?;
        interface::silence(ifname, !addresses.iter().any(IpAddr::is_ipv6));
        let far = Link { name: ifname.clone(), index: link.peer, ..link.clone() };
        Direct::open()?.ask(interface::dress(&far, addresses)?)?;
        host.ask(vec![Request::up(link)])?;
        Ok(())
    }

    /// The hooks of a new device.
    fn hook(&self, host: &Direct, link: &Link) -> Result<(), PodError> {
        let mut programs = self.programs.lock().expect("no holder panics");
        if programs.kind_of_pods() == "tcx" {
            programs.attach(Hook::FromPod, &link.name)?;
            programs.attach(Hook::ToPod, &link.name)?;
            return Ok(());
        }
        let filters = programs.of_pods()?;
        drop(programs);
        host.ask(tc::hooks(link, &filters))?;
        Ok(())
    }
}
