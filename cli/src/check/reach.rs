//! Who must reach whom, and as whom.
use std::net::IpAddr;

use probe::Proto;
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    caller,
    expect::{self, Expect},
    fixture::{Fixture, Served, TCP, UDP},
    report::Report,
};

/// Source of flows that return to where they started (docs/adr/0007).
const HAIRPIN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 42, 1));
/// The port of `kubernetes`.
const HTTPS: u16 = 443;
/// The node's own port, which every node serves.
const KUBELET: u16 = 10250;

/// Every pod to every pod on every node, with its own address.
pub(super) async fn pods_to_pods(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    for (proto, port, name) in [(Proto::Tcp, TCP, "TCP"), (Proto::Udp, UDP, "UDP"), (Proto::Icmp, 0, "ping")] {
        let plan = fixture.pods.iter().map(|from| {
            let to = fixture.pods.iter();
            let expects = to.map(|to| Expect::answer(&to.name, proto, to.address, port).seen_as(&[from.address]));
            (from.clone(), expects.collect())
        });
        let (tried, broken) = expect::all(plan.collect()).await?;
        report.add(format!("every pod reaches every pod by {name}, as itself"), tried, broken);
    }
    Ok(())
}

/// Nodes to pods and pods to nodes.
pub(super) async fn hosts_and_pods(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    let plan = fixture.nodes.iter().map(|from| {
        let expects = fixture.pods.iter().flat_map(|to| {
            [(Proto::Tcp, TCP), (Proto::Udp, UDP), (Proto::Icmp, 0)]
                .map(|(proto, port)| Expect::answer(&to.name, proto, to.address, port).seen_as(&[from.address]))
        });
        (from.clone(), expects.collect())
    });
    let (tried, broken) = expect::all(plan.collect()).await?;
    report.add("every node reaches every pod, as itself", tried, broken);
    let plan = fixture.pods.iter().map(|from| {
        let expects = fixture.nodes.iter().flat_map(|to| {
            [(Proto::Connect, KUBELET), (Proto::Icmp, 0)]
                .map(|(proto, port)| Expect::answer(&to.name, proto, to.address, port))
        });
        (from.clone(), expects.collect())
    });
    let (tried, broken) = expect::all(plan.collect()).await?;
    report.add("every pod reaches every node", tried, broken);
    Ok(())
}

/// Each ClusterIP from each pod (as itself) and each node.
pub(super) async fn cluster_ips(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    let to_services = |own: &[IpAddr]| -> Vec<Expect> {
        let each = fixture.services.iter().flat_map(|service| {
            [(Proto::Tcp, service.ports.0), (Proto::Udp, service.ports.1)].map(|(proto, port)| {
                let what = format!("Service {} ({proto:?})", service.name);
                Expect::answer(what, proto, service.address, port).seen_as(own)
            })
        });
        let api = Expect::answer("Service kubernetes", Proto::Connect, fixture.kubernetes, HTTPS);
        each.chain([api]).collect()
    };
    let pods = fixture.pods.iter().map(|from| (from.clone(), to_services(&[from.address, HAIRPIN])));
    let (tried, broken) = expect::all(pods.collect()).await?;
    report.add("each ClusterIP from each pod, as itself", tried, broken);
    let nodes = fixture.nodes.iter().map(|from| (from.clone(), to_services(&[from.address, HAIRPIN])));
    let (tried, broken) = expect::all(nodes.collect()).await?;
    report.add("each ClusterIP from each node", tried, broken);
    Ok(())
}

/// Each NodePort on each node: from outside with the client's own address, from pods, from the other nodes.
pub(super) async fn node_ports(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    let expects = |except: &str, own: &[IpAddr]| -> Vec<Expect> {
        let served = fixture.services.iter().filter_map(|service| Some((service, service.node_ports?)));
        let each = served.flat_map(|(service, ports)| {
            let nodes = fixture.nodes.iter().filter(move |node| node.node != except);
            nodes.flat_map(move |node| node_port(service, ports, &node.name, node.address))
        });
        each.map(|expect| expect.seen_as(own)).collect()
    };
    let outside = &fixture.outside;
    let (tried, broken) = expect::all(vec![(outside.clone(), expects("", &[outside.address]))]).await?;
    report.add("each NodePort of each node from outside, as itself", tried, broken);
    let pods = fixture.pods.iter().map(|from| (from.clone(), expects("", &[from.address, HAIRPIN])));
    let (tried, broken) = expect::all(pods.collect()).await?;
    report.add("each NodePort of each node from each pod", tried, broken);
    let nodes = fixture.nodes.iter().map(|from| (from.clone(), expects(&from.node, &[])));
    let (tried, broken) = expect::all(nodes.collect()).await?;
    if fixture.nodes.len() > 1 {
        report.add("each NodePort from each other node", tried, broken);
    }
    Ok(())
}

fn node_port(service: &Served, ports: (u16, u16), node: &str, address: IpAddr) -> [Expect; 2] {
    [(Proto::Tcp, ports.0), (Proto::Udp, ports.1)].map(|(proto, port)| {
        Expect::answer(format!("Service {} at {node}:{port} ({proto:?})", service.name), proto, address, port)
    })
}

/// Pods to a server outside, which must see their node.
pub(super) async fn outside(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    let (started, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let bind: IpAddr = fixture.outside.address;
    let server = caller::inside(&fixture.outside_netns, move || async move {
        let listener = TcpListener::bind((bind, 0)).await?;
        let _ = started.send(listener.local_addr()?);
        let place = probe::serve::Place { pod: "outside".into(), node: String::new() };
        tokio::select! {
            () = probe::serve::serve_tcp(listener, std::sync::Arc::new(place)) => {}
            _ = stopped => {}
        }
        Ok::<(), std::io::Error>(())
    });
    let calls = async {
        let address = address.await?;
        let plan = fixture.pods.iter().map(|from| {
            let node: Vec<IpAddr> = fixture.nodes.iter().filter(|n| n.node == from.node).map(|n| n.address).collect();
            let tcp = Expect::answer("outside", Proto::Tcp, address.ip(), address.port()).seen_as(&node);
            (from.clone(), vec![tcp, Expect::answer("outside", Proto::Icmp, address.ip(), 0)])
        });
        let outcome = expect::all(plan.collect()).await;
        let _ = stop.send(());
        outcome
    };
    let (server, outcome) = tokio::join!(server, calls);
    server??;
    let (tried, broken) = outcome?;
    report.add("every pod reaches outside, as its node", tried, broken);
    Ok(())
}
