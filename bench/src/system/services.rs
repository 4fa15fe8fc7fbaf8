//! Services through the API, and their rows in the kernel.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use abi::{
    map,
    service::{SCOPE_CLUSTER, Service as Row, ServiceKey},
};
use anyhow::{Context as _, ensure};
use aya::maps::{HashMap, Map, MapData};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use zerocopy::FromBytes;

use super::cluster::Cluster;
use crate::tables::raw;

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Requests at once, while the cluster is filled.
const AT_ONCE: u32 = 16;
const NAMESPACE: &str = "default";
const PORT: u16 = 80;
const TCP: u8 = 6;

/// A change of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The Service itself.
    Created,
    /// Its first endpoint.
    Endpoint,
    /// Its end.
    Deleted,
}

impl Change {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Change::Created => "Service created → row there",
            Change::Endpoint => "EndpointSlice created → row has backends",
            Change::Deleted => "Service deleted → row gone",
        }
    }
}

fn service(name: &str) -> anyhow::Result<Service> {
    let ports = json!([{ "port": PORT, "protocol": "TCP", "targetPort": 8080 }]);
    Ok(serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "ports": ports } }))?)
}

fn endpoints(name: &str, address: Ipv4Addr) -> anyhow::Result<EndpointSlice> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": format!("{name}-1"), "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
        "endpoints": [{ "addresses": [address.to_string()], "conditions": { "ready": true } }],
    }))?)
}

/// Makes Services, each with an endpoint, from number `from` to number `to`.
pub(crate) async fn fill(client: &Client, from: u32, to: u32) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..AT_ONCE {
        let client = client.clone();
        tasks.spawn(async move {
            let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
            let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
            for number in (from..to).filter(|number| number % AT_ONCE == lane) {
                let name = format!("filled-{number}");
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 9, 1)) + number % 200);
                services.create(&PostParams::default(), &service(&name)?).await?;
                slices.create(&PostParams::default(), &endpoints(&name, address)?).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The kernel's table of services.
struct Table(HashMap<MapData, [u8; 20], [u8; 32]>);

impl Table {
    fn open(cluster: &Cluster) -> anyhow::Result<Table> {
        let path = cluster.map(map::SERVICES.name)?;
        let data = MapData::from_pin(&path).with_context(|| path.display().to_string())?;
        Ok(Table(Map::HashMap(data).try_into()?))
    }

    fn row(&self, address: Ipv4Addr) -> Option<Row> {
        let addr = IpAddr::V4(address).into();
        let key = ServiceKey { addr, port: PORT.to_be(), proto: TCP, scope: SCOPE_CLUSTER };
        self.0.get(&raw::<20>(&key), 0).ok().and_then(|row| Row::read_from_bytes(&row).ok())
    }

    /// ms until the row is as it should be.
    async fn until(
        &self,
        address: Ipv4Addr,
        begun: Instant,
        done: impl Fn(Option<Row>) -> bool,
    ) -> anyhow::Result<f64> {
        while !done(self.row(address)) {
            ensure!(begun.elapsed() < PATIENCE, "the row of {address} does not change");
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

/// Waits until all that was made is in the kernel's table.
pub(crate) async fn settled(cluster: &Cluster, services: u32) -> anyhow::Result<()> {
    let table = Table::open(cluster)?;
    let begun = Instant::now();
    loop {
        let mut by_backends = BTreeMap::new();
        for row in table.0.iter().filter_map(Result::ok).filter_map(|(_, row)| Row::read_from_bytes(&row).ok()) {
            *by_backends.entry(row.count > 0).or_insert(0) += 1;
        }
        if by_backends.get(&true).copied().unwrap_or(0) >= services {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "of {services} Services these are in the table: {by_backends:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes Services one after another: ms by kind of change.
pub(crate) async fn changes(client: &Client, cluster: &Cluster, count: u32) -> anyhow::Result<[Vec<f64>; 3]> {
    let table = Table::open(cluster)?;
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..count {
        let name = format!("changed-{number}");
        let made = services.create(&PostParams::default(), &service(&name)?).await?;
        let begun = Instant::now();
        let address = made.spec.and_then(|spec| spec.cluster_ip).context("a Service without an address")?;
        let address: Ipv4Addr = address.parse().context("the address of a Service")?;
        times[0].push(table.until(address, begun, |row| row.is_some()).await?);
        slices.create(&PostParams::default(), &endpoints(&name, Ipv4Addr::new(10, 244, 9, 250))?).await?;
        let begun = Instant::now();
        times[1].push(table.until(address, begun, |row| row.is_some_and(|row| row.count > 0)).await?);
        services.delete(&name, &kube::api::DeleteParams::default()).await?;
        let begun = Instant::now();
        times[2].push(table.until(address, begun, |row| row.is_none()).await?);
        slices.delete(&format!("{name}-1"), &kube::api::DeleteParams::default()).await?;
    }
    Ok(times)
}
