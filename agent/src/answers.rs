//! What people ask over the socket: `weft status`, `monitor`, `table dump`, `pod list`, `route list`, `flow list`.
use std::{collections::BTreeSet, pin::Pin, sync::Arc};

use abi::{
    Addr,
    pod::{HOST, ISOLATED_EGRESS, ISOLATED_INGRESS, Pod, READY},
    route::{CLUSTER_RANGE, LOCAL, NATIVE, NODE_ADDRESS, NOT_MASQUERADED, Node, Route, SERVICE_RANGE},
};
use agent_api::v1::{
    self, Event, Flow, FlowListRequest, HealthReply, HealthRequest, MonitorRequest, PodListReply, PodListRequest,
    RouteListReply, RouteListRequest, StatusReply, StatusRequest, TableDumpReply, TableDumpRequest,
    agent_server::Agent,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{
    Shared, events, listeners,
    names::Namer,
    slots,
    snapshot::{Attachment, Snapshot},
    status,
    tables::Table,
    text,
};

/// The service behind the socket.
pub struct AgentService(pub Arc<Shared>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Flows in one answer if the caller sets no limit.
const FLOWS: u32 = 10_000;

#[tonic::async_trait]
impl Agent for AgentService {
    type MonitorStream = Streamed<Event>;
    type TableDumpStream = Streamed<TableDumpReply>;
    type FlowListStream = Streamed<Flow>;

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        let reasons = self.0.not_ready();
        Ok(Response::new(HealthReply { ready: reasons.is_empty(), reasons }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(status::status(&self.0)))
    }

    async fn monitor(&self, request: Request<MonitorRequest>) -> Result<Response<Streamed<Event>>, Status> {
        let request = request.into_inner();
        let known = [events::DROP, events::FLOW, events::HALF_OPEN];
        if let Some(kind) = request.kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            let known = known.join(", ");
            return Err(Status::invalid_argument(format!("there is no kind {kind} of event: {known}")));
        }
        let listener = self.0.events.subscribe();
        // Told of as long as the stream lives.
        let listens = request.kinds.iter().any(|kind| kind == events::FLOW);
        let held = listens.then(|| listeners::Listens::new(self.0.clone()));
        let held = held.transpose().map_err(|error| Status::unavailable(crate::chain(&error)))?;
        let stream = futures::stream::unfold((listener, request, held), |(mut listener, request, held)| async move {
            loop {
                let event = events::next(&mut listener).await?;
                if events::wanted(&request, &event) {
                    return Some((Ok(event), (listener, request, held)));
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn table_dump(
        &self,
        request: Request<TableDumpRequest>,
    ) -> Result<Response<Streamed<TableDumpReply>>, Status> {
        let wanted = request.into_inner().tables;
        let names: Vec<&str> = Table::ALL.iter().map(|table| table.spec().name).collect();
        let unknown = wanted.iter().find(|name| !names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        if let Some(unknown) = unknown {
            return Err(Status::not_found(format!("there is no table {unknown}; there are {}", names.join(", "))));
        }
        let bpffs = self.0.args.bpffs.clone();
        // Read from the kernel, not from the mirror: whoever dumps wants to see what is.
        let tables = tokio::task::spawn_blocking(move || {
            let store = crate::load::store(&crate::load::tables_dir(&bpffs)).map_err(|error| crate::chain(&error))?;
            crate::apply::read(&store).map_err(|error| crate::chain(&error))
        });
        let tables = tables.await.unwrap_or_else(|_| Err("reading ended early".into())).map_err(Status::unavailable)?;
        let picked = move |table: &&Table| {
            wanted.is_empty() || wanted.iter().any(|name| table.spec().name.eq_ignore_ascii_case(name))
        };
        let replies: Vec<_> = Table::ALL
            .iter()
            .filter(picked)
            .map(|table| {
                let (rows, text) = (tables.len(*table) as u32, text::table(&tables, *table));
                Ok(TableDumpReply { table: table.spec().name.to_owned(), rows, text })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn pod_list(&self, _: Request<PodListRequest>) -> Result<Response<PodListReply>, Status> {
        Ok(Response::new(PodListReply { pods: pods(&self.0) }))
    }

    async fn route_list(&self, _: Request<RouteListRequest>) -> Result<Response<RouteListReply>, Status> {
        let in_force = self.0.in_force.borrow().clone();
        let (tables, names) = (&in_force.tables, &in_force.compiled.names);
        let route = |(prefix, row): (&abi::addr::Prefix, &abi::route::Route)| {
            let node = tables.nodes.get(&row.node);
            let (way, via) = way(node, prefix);
            v1::route_list_reply::Route {
                prefix: text::prefix(prefix),
                node_id: row.node,
                node: names.nodes.get(&row.node).map(ToString::to_string).unwrap_or_default(),
                tunnel: node
                    .filter(|node| node.flags & LOCAL == 0)
                    .map(|node| node.tunnel.to_string())
                    .unwrap_or_default(),
                flags: words(row, node),
                way,
                via,
            }
        };
        // Keys sort by memory order, which is not people's.
        let mut rows: Vec<_> = tables.routes.iter().collect();
        rows.sort_by_key(|(prefix, _)| (std::net::IpAddr::from(prefix.addr), prefix.prefix_len));
        Ok(Response::new(RouteListReply { routes: rows.into_iter().map(route).collect() }))
    }

    async fn flow_list(&self, request: Request<FlowListRequest>) -> Result<Response<Streamed<Flow>>, Status> {
        let request = request.into_inner();
        let limit = if request.limit == 0 { FLOWS } else { request.limit } as usize;
        let shared = self.0.clone();
        let flows = tokio::task::spawn_blocking(move || {
            let started = shared.started.get().ok_or("the agent is not ready yet")?;
            let compiled = shared.in_force.borrow().compiled.clone();
            let addresses = shared.addresses.of(&shared.inbox);
            let namer = Namer { addresses, names: &compiled.names, node: &shared.args.node_name };
            started.flows.list(&namer, limit, &request.pod).map_err(|_| "the kernel refused to list the flows")
        });
        let flows = flows.await.unwrap_or(Err("listing ended early")).map_err(Status::unavailable)?;
        Ok(Response::new(Box::pin(tokio_stream::iter(flows.into_iter().map(Ok)))))
    }
}

/// How packets to an address of this prefix go to the node, and natively through whom.
fn way(node: Option<&Node>, prefix: &abi::addr::Prefix) -> (String, String) {
    let v4 = prefix.prefix_len >= 96 && prefix.addr.is_v4();
    match node.filter(|node| node.flags & LOCAL == 0) {
        None => (String::new(), String::new()),
        Some(node) if node.says(NATIVE, v4) => ("native".to_owned(), node.next(v4).to_string()),
        Some(_) => ("vxlan".to_owned(), String::new()),
    }
}

/// What a route is for, in words.
fn words(row: &Route, node: Option<&Node>) -> Vec<String> {
    let kinds = NODE_ADDRESS | SERVICE_RANGE | CLUSTER_RANGE | NOT_MASQUERADED;
    [
        (node.is_some_and(|node| node.flags & LOCAL != 0), "local"),
        (row.flags & kinds == 0, "pods"),
        (row.flags & NODE_ADDRESS != 0, "node-address"),
        (row.flags & SERVICE_RANGE != 0, "service-range"),
        (row.flags & CLUSTER_RANGE != 0, "cluster-range"),
        (row.flags & NOT_MASQUERADED != 0, "not-masqueraded"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, word)| word.to_owned())
    .collect()
}

fn pods(shared: &Shared) -> Vec<v1::pod_list_reply::Pod> {
    let in_force = shared.in_force.borrow().clone();
    let (tables, names) = (&in_force.tables, &in_force.compiled.names);
    let active = (tables.epoch() & 1) as usize;
    let snapshot = shared.inbox.snapshot();
    let rows = tables.pod.iter().filter(|(id, row)| **id != HOST && !slots::pod_is_free(row));
    rows.map(|(id, row)| {
        let attachment = snapshot.attachments.iter().find(|a| a.ifindex == row.ifindex);
        let key = names.pods.get(id);
        let limits = attachment.map(|a| limits(a, &snapshot)).unwrap_or_default();
        let set = names.sets.get(&row.policy_set[active]);
        let policies: BTreeSet<String> =
            set.into_iter().flat_map(|set| set.ingress.iter().chain(&set.egress)).map(ToString::to_string).collect();
        let text = |pick: fn(&Attachment) -> &str| attachment.map(pick).unwrap_or_default().to_owned();
        v1::pod_list_reply::Pod {
            id: *id,
            namespace: key.map(|key| key.namespace.to_string()).unwrap_or_default(),
            name: key.map(|key| key.name.to_string()).unwrap_or_default(),
            uid: text(|a| &a.uid),
            addresses: addresses(row, attachment),
            container_id: text(|a| &a.container_id),
            ifname: text(|a| &a.ifname),
            device: shared.device_name(row.ifindex),
            mac: text::mac(row.mac),
            generation: row.generation,
            ready: row.flags & READY != 0,
            isolated_ingress: row.isolated[active] & ISOLATED_INGRESS != 0,
            isolated_egress: row.isolated[active] & ISOLATED_EGRESS != 0,
            policy_set: row.policy_set[active],
            policies: policies.into_iter().collect(),
            host_ports: attachment.map(host_ports).unwrap_or_default(),
            ingress_limit: limits[0],
            egress_limit: limits[1],
            foreign: snapshot.foreign.get(&row.ifindex).cloned().unwrap_or_default(),
        }
    })
    .collect()
}

/// The pod's addresses, its node's primary family first.
fn addresses(row: &Pod, attachment: Option<&Attachment>) -> Vec<String> {
    match attachment {
        Some(attachment) => attachment.addresses.iter().map(ToString::to_string).collect(),
        None => [row.addr4, row.addr6].iter().filter(|addr| **addr != Addr::ANY).map(ToString::to_string).collect(),
    }
}

fn host_ports(attachment: &Attachment) -> Vec<v1::pod_list_reply::HostPort> {
    let port = |port: &crate::cni::wishes::HostPort| v1::pod_list_reply::HostPort {
        host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        port: port.port.into(),
        container_port: port.container_port.into(),
        proto: text::proto(port.proto),
    };
    attachment.wishes.host_ports.iter().map(port).collect()
}

/// Bits per second that the pod may receive and send; 0 without a limit. What makes no sense was refused when it came.
fn limits(attachment: &Attachment, snapshot: &Snapshot) -> [u64; 2] {
    let pod = snapshot.pods.get(&attachment.pod).map(|pod| &**pod);
    let rates = attachment.wishes.rates(pod).unwrap_or_default();
    rates.map(|rate| rate.map_or(0, |rate| rate.bytes.saturating_mul(8)))
}
