//! `weft status`: one page about a node's agent.

use agent_api::v1::{
    HealthRequest, StatusReply, StatusRequest,
    status_reply::{Peer, Table},
};

use super::{Format, Target, answer, ask, or_dash, print};
use crate::columns::columns;

/// Ways to other nodes that the page shows.
const PEERS: usize = 20;

/// Flags of `weft status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ask(&args.target, async |mut agent| {
        let status = answer(agent.status(StatusRequest {}).await)?;
        let health = answer(agent.health(HealthRequest {}).await)?;
        print(args.format.of(&status, || page(&status, &health.reasons))?)?;
        anyhow::ensure!(health.ready, "the agent is not ready");
        Ok(())
    })
}

fn page(status: &StatusReply, reasons: &[String]) -> String {
    let ready = if status.ready { "yes".to_owned() } else { format!("no: {}", reasons.join("; ")) };
    let pods = match status.attach_pods.as_str() {
        "" => String::new(),
        same if same == status.attach => String::new(),
        other => format!(", pods by {other}"),
    };
    let mut page = format!("node       {} (kernel {}, {}{pods})\n", status.node, status.kernel, status.attach);
    page += &format!("version    {}\nready      {ready}\n", status.version);
    if let Some(device) = &status.device {
        page += &format!("device     {} (MTU {}, {}): {}\n", device.name, device.mtu, device.address, device.reason);
    }
    for device in &status.other_devices {
        let address = or_dash(device.address.clone());
        page += &format!("not used   {} (MTU {}, {address}): {}\n", device.name, device.mtu, device.reason);
    }
    page += &routing(status);
    if !status.encapsulation.is_empty() {
        page += &format!("overlay    {} ({})\n", status.encapsulation, status.encapsulation_reason);
    }
    page += &format!(
        "pods       {} (MTU {}), room for {} in {}\n",
        status.pods,
        status.pod_mtu,
        status.addresses_total,
        or_dash(status.pod_cidrs.join(", "))
    );
    for range in &status.addresses {
        let share = share(range.used, range.capacity);
        page += &format!(
            "{:<10} {} of {} addresses of {} ({share})\n",
            range.family, range.used, range.capacity, range.range
        );
    }
    let last = f64::from(u32::try_from(status.last_round_micros).unwrap_or(u32::MAX)) / 1000.0;
    page += &format!("tables     epoch {}, {} rounds, the last took {last:.1} ms\n", status.epoch, status.rounds);
    page += &flows(status);
    page += &columns(["TABLE", "USED", "ROOM", "PRESSURE"], &status.tables.iter().map(table).collect::<Vec<_>>());
    let watches = status.watches.iter().map(|watch| {
        let state = match (watch.synced, watch.error.as_str()) {
            (true, "") => "synced".to_owned(),
            (false, "") => "syncing".to_owned(),
            (_, error) => error.to_owned(),
        };
        [watch.kind.clone(), watch.objects.to_string(), state]
    });
    page += &format!("\n{}", columns(["WATCH", "OBJECTS", "STATE"], &watches.collect::<Vec<_>>()));
    let hooks: Vec<_> = status.hooks.iter().map(|hook| [hook.program.clone(), hook.device.clone()]).collect();
    page += &format!("\n{}", columns(["HOOK", "DEVICE"], &hooks));
    if !status.peers.is_empty() {
        let peers = status.peers.iter().take(PEERS).map(peer).collect::<Vec<_>>();
        page += &format!("\n{}", columns(["PEER", "FAMILY", "WAY", "VIA", "TAKES", "WHY"], &peers));
        if status.peers.len() > PEERS {
            page += &format!("and {} more; -o json has all\n", status.peers.len() - PEERS);
        }
    }
    if !status.issues.is_empty() {
        let issues = status
            .issues
            .iter()
            .map(|issue| [issue.kind.clone(), format!("{}/{}", issue.namespace, issue.name), issue.message.clone()]);
        page += &format!("\n{}", columns(["ISSUE", "OBJECT", "MESSAGE"], &issues.collect::<Vec<_>>()));
    }
    page
}

fn flows(status: &StatusReply) -> String {
    let share = match status.flows_per_pod {
        0 => "any number".to_owned(),
        share => share.to_string(),
    };
    let timeouts = status.timeouts.iter().map(|timeout| format!("{} {} s", timeout.name, timeout.seconds));
    let timeouts = or_dash(timeouts.collect::<Vec<_>>().join(", "));
    format!("flows      {share} of FLOWS per pod; timeouts: {timeouts}\n\n")
}

/// The mode, and how many ways to other nodes are which.
fn routing(status: &StatusReply) -> String {
    if status.routing.is_empty() {
        return String::new(); // An agent of before there were modes.
    }
    let native = status.peers.iter().filter(|peer| peer.way == "native").count();
    let taken = if status.accept_native { ", native packets are taken from every node" } else { "" };
    let (mode, vxlan) = (&status.routing, status.peers.len() - native);
    let whole = status.device.as_ref().is_some_and(|device| device.mtu == status.pod_mtu);
    let full = if mode == "native" && whole { ", pods have the device's own MTU" } else { "" };
    format!("routing    {mode}: {native} ways to other nodes are native, {vxlan} by VXLAN{taken}{full}\n")
}

fn peer(peer: &Peer) -> [String; 6] {
    let takes = if peer.takes_native { "vxlan,native" } else { "vxlan" };
    let (node, family, way) = (peer.node.clone(), peer.family.clone(), peer.way.clone());
    [node, family, way, or_dash(peer.via.clone()), takes.to_owned(), peer.reason.clone()]
}

fn table(table: &Table) -> [String; 4] {
    let pressure = share(table.used.into(), table.max.into());
    [table.name.clone(), table.used.to_string(), table.max.to_string(), pressure]
}

/// In per cent, with one decimal, never less than there is.
fn share(used: u64, of: u64) -> String {
    let tenths = (u128::from(used) * 1_000).div_ceil(u128::from(of.max(1)));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_it_is_not_ready() {
        let status = StatusReply { node: "n".to_owned(), ..StatusReply::default() };
        let page = page(&status, &["no device".to_owned(), "no API server".to_owned()]);
        assert!(page.contains("ready      no: no device; no API server\n"), "{page}");
    }

    #[test]
    fn says_which_way_and_why() {
        let peer =
            |way: &str| Peer { node: "n2".into(), way: way.into(), reason: "it is so".into(), ..Peer::default() };
        let peers = vec![peer("native"), peer("vxlan")];
        let page = page(&StatusReply { routing: "auto".into(), peers, ..StatusReply::default() }, &[]);
        assert!(page.contains("routing    auto: 1 ways to other nodes are native, 1 by VXLAN\n"), "{page}");
        assert!(page.contains("it is so"), "{page}");
    }

    #[test]
    fn says_who_encapsulates() {
        let (encapsulation, reason) = ("device".to_owned(), "weft_vxlan does".to_owned());
        let (attach, attach_pods) = ("tcx".to_owned(), "clsact".to_owned());
        let status =
            StatusReply { encapsulation, encapsulation_reason: reason, attach, attach_pods, ..StatusReply::default() };
        let page = page(&status, &[]);
        assert!(page.contains("overlay    device (weft_vxlan does)\n"), "{page}");
        assert!(page.contains("tcx, pods by clsact)\n"), "{page}");
    }

    #[track_caller]
    fn check(used: u64, of: u64, expected: &str) {
        assert_eq!(share(used, of), expected);
    }

    #[test]
    fn shares() {
        check(0, 262_144, "0.0 %");
        check(1, 262_144, "0.1 %");
        check(131_072, 262_144, "50.0 %");
        check(8_191, 8_192, "100.0 %");
        check(0, 0, "0.0 %");
    }
}
