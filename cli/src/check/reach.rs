//! Who must reach whom, and as whom.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use local_cluster::Family;
use probe::Proto;
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    caller::{self, Caller},
    expect::{self, Expect},
    fixture::{Fixture, Served, TCP, UDP},
    report::Report,
};

/// Source of flows that return to where they started (docs/adr/0007).
const fn hairpin(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 42, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x169, 0x254, 0x42, 0, 0, 0, 1)),
    }
}

/// The port of `kubernetes`.
const HTTPS: u16 = 443;
/// The node's own port, which every node serves.
const KUBELET: u16 = 10250;

/// Who reaches whom, in every family of the cluster.
pub(super) async fn everywhere(fixture: &Fixture, report: &mut Report) -> anyhow::Result<()> {
    for family in fixture.families.families().iter().copied() {
        pods_to_pods(fixture, family, report).await?;
        hosts_and_pods(fixture, family, report).await?;
        cluster_ips(fixture, family, report).await?;
        node_ports(fixture, family, report).await?;
        outside(fixture, family, report).await?;
    }
    Ok(())
}

/// Every pod to every pod on every node, with its own address.
pub(super) async fn pods_to_pods(fixture: &Fixture, family: Family, report: &mut Report) -> anyhow::Result<()> {
    for (proto, port, name) in [(Proto::Tcp, TCP, "TCP"), (Proto::Udp, UDP, "UDP"), (Proto::Icmp, 0, "ping")] {
        let plan = fixture.pods.iter().map(|from| {
            let to = fixture.pods.iter();
            let own = [from.at(family)];
            let expects = to.map(|to| Expect::answer(&to.name, proto, to.at(family), port).seen_as(&own));
            (from.clone(), expects.collect())
        });
        let (tried, broken) = expect::all(plan.collect()).await?;
        let promise = format!("every pod reaches every pod by {name}, as itself");
        report.add(fixture.promise(&promise, family), tried, broken);
    }
    Ok(())
}

/// Nodes to pods and pods to nodes.
async fn hosts_and_pods(fixture: &Fixture, family: Family, report: &mut Report) -> anyhow::Result<()> {
    let plan = fixture.nodes.iter().map(|from| {
        let expects = fixture.pods.iter().flat_map(|to| {
            [(Proto::Tcp, TCP), (Proto::Udp, UDP), (Proto::Icmp, 0)]
                .map(|(proto, port)| Expect::answer(&to.name, proto, to.at(family), port).seen_as(&[from.at(family)]))
        });
        (from.clone(), expects.collect())
    });
    let (tried, broken) = expect::all(plan.collect()).await?;
    report.add(fixture.promise("every node reaches every pod, as itself", family), tried, broken);
    let plan = fixture.pods.iter().map(|from| {
        let expects = fixture.nodes.iter().flat_map(|to| {
            [(Proto::Connect, KUBELET), (Proto::Icmp, 0)]
                .map(|(proto, port)| Expect::answer(&to.name, proto, to.at(family), port))
        });
        (from.clone(), expects.collect())
    });
    let (tried, broken) = expect::all(plan.collect()).await?;
    report.add(fixture.promise("every pod reaches every node", family), tried, broken);
    Ok(())
}

/// Each ClusterIP from each pod (as itself) and each node.
async fn cluster_ips(fixture: &Fixture, family: Family, report: &mut Report) -> anyhow::Result<()> {
    let to_services = |from: &Caller| -> Vec<Expect> {
        let own = [from.at(family), hairpin(family)];
        let each = fixture.services.iter().flat_map(|service| {
            [(Proto::Tcp, service.ports.0), (Proto::Udp, service.ports.1)].map(|(proto, port)| {
                let what = format!("Service {} ({proto:?})", service.name);
                Expect::answer(what, proto, service.addresses.of(family), port).seen_as(&own)
            })
        });
        let api = family.is_of(fixture.kubernetes);
        let api = api.then(|| Expect::answer("Service kubernetes", Proto::Connect, fixture.kubernetes, HTTPS));
        each.chain(api).collect()
    };
    for (callers, promise) in
        [(&fixture.pods, "each ClusterIP from each pod, as itself"), (&fixture.nodes, "each ClusterIP from each node")]
    {
        let plan = callers.iter().map(|from| (from.clone(), to_services(from)));
        let (tried, broken) = expect::all(plan.collect()).await?;
        report.add(fixture.promise(promise, family), tried, broken);
    }
    Ok(())
}

/// Each NodePort on each node: from outside with the client's own address, from pods, from the other nodes.
async fn node_ports(fixture: &Fixture, family: Family, report: &mut Report) -> anyhow::Result<()> {
    let expects = |except: &str, own: &[IpAddr]| -> Vec<Expect> {
        let served = fixture.services.iter().filter_map(|service| Some((service, service.node_ports?)));
        let each = served.flat_map(|(service, ports)| {
            let nodes = fixture.nodes.iter().filter(move |node| node.node != except);
            nodes.flat_map(move |node| node_port(service, ports, &node.name, node.at(family)))
        });
        each.map(|expect| expect.seen_as(own)).collect()
    };
    let outside = &fixture.outside;
    let (tried, broken) = expect::all(vec![(outside.clone(), expects("", &[outside.at(family)]))]).await?;
    report.add(fixture.promise("each NodePort of each node from outside, as itself", family), tried, broken);
    let pods = fixture.pods.iter().map(|from| (from.clone(), expects("", &[from.at(family), hairpin(family)])));
    let (tried, broken) = expect::all(pods.collect()).await?;
    report.add(fixture.promise("each NodePort of each node from each pod", family), tried, broken);
    let nodes = fixture.nodes.iter().map(|from| (from.clone(), expects(&from.node, &[])));
    let (tried, broken) = expect::all(nodes.collect()).await?;
    if fixture.nodes.len() > 1 {
        report.add(fixture.promise("each NodePort from each other node", family), tried, broken);
    }
    Ok(())
}

fn node_port(service: &Served, ports: (u16, u16), node: &str, address: IpAddr) -> [Expect; 2] {
    [(Proto::Tcp, ports.0), (Proto::Udp, ports.1)].map(|(proto, port)| {
        Expect::answer(format!("Service {} at {node}:{port} ({proto:?})", service.name), proto, address, port)
    })
}

/// Pods to a server outside, which must see their node.
async fn outside(fixture: &Fixture, family: Family, report: &mut Report) -> anyhow::Result<()> {
    let (started, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let bind = fixture.outside.at(family);
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
            let node = fixture.nodes.iter().filter(|node| node.node == from.node).map(|node| node.at(family));
            let node: Vec<IpAddr> = node.collect();
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
    report.add(fixture.promise("every pod reaches outside, as its node", family), tried, broken);
    Ok(())
}
