//! CNI calls as the plugin hands them on (https://www.cni.dev/docs/spec/): arguments checked, errors in CNI's codes.
use std::{net::IpAddr, sync::Arc, time::Duration};

use agent_api::{
    code,
    v1::{
        CniError, CniGcRequest, CniReply, CniRequest, CniResult, CniStatusRequest,
        cni_result::{Interface, Ip, Route},
        cni_server::Cni,
    },
};
use ipnetwork::IpNetwork;
use serde_json::Value;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::{
    Shared, Started,
    ipam::{self, Entry, IpamError},
    netns::NetnsError,
    pods::{Made, PodError, gateway},
};

pub mod wishes;

use wishes::Wishes;

/// How long ADD waits for the pod's policy if the caller sets no limit: less than a kubelet's patience.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is left of a caller's limit to undo and to answer.
const RESERVE: Duration = Duration::from_millis(500);

/// The service behind the socket.
pub struct CniService(pub Arc<Shared>);

type Answer = Result<Response<CniReply>, Status>;

#[tonic::async_trait]
impl Cni for CniService {
    async fn add(&self, request: Request<CniRequest>) -> Answer {
        let (request, shared) = (request.into_inner(), self.0.clone());
        let (answer, answered) = oneshot::channel();
        // On a task of its own: a caller that hangs up must not leave half an interface.
        tokio::spawn(async move {
            let (kept, told) = match add(&shared, &request).await {
                Ok((entry, result)) => (Some(entry), Ok(result)),
                Err(error) => (None, Err(error)),
            };
            // Nor a whole one: to whom nobody answered, the ADD failed.
            if answer.send(told).is_err()
                && let Some(entry) = kept
            {
                abandon(&shared, &entry).await;
            }
        });
        reply(answered.await.unwrap_or_else(|_| Err(later("the call ended early"))).map(Some))
    }

    async fn del(&self, request: Request<CniRequest>) -> Answer {
        let request = request.into_inner();
        let shared = self.0.clone();
        let work = tokio::spawn(async move {
            let started = started(&shared)?;
            started.pods.remove(&request.container_id, &request.ifname).await.map_err(|error| told(&error))
        });
        reply(work.await.unwrap_or_else(|_| Err(later("the call ended early"))).map(|()| None))
    }

    async fn check(&self, request: Request<CniRequest>) -> Answer {
        let request = request.into_inner();
        reply(check(&self.0, &request).await.map(|()| None))
    }

    async fn gc(&self, request: Request<CniGcRequest>) -> Answer {
        let CniGcRequest { valid, config_json } = request.into_inner();
        let network = network(&config_json);
        let keep = |entry: &Entry| {
            let of_another = !entry.network.is_empty() && entry.network != network;
            of_another || valid.iter().any(|valid| entry.is(&valid.container_id, &valid.ifname))
        };
        let result = match started(&self.0) {
            Ok(started) => started.pods.collect(keep).await.map_err(|error| told(&error)),
            Err(error) => Err(error),
        };
        reply(result.map(|_| None))
    }

    async fn status(&self, _: Request<CniStatusRequest>) -> Answer {
        reply(available(&self.0).map(|()| None))
    }
}

/// Nobody waits for the interface any more.
async fn abandon(shared: &Shared, entry: &Entry) {
    let pod = format!("{}/{}", entry.namespace, entry.name);
    tracing::warn!(pod, container = entry.container_id, "the caller of ADD is gone: its interface goes too");
    if let Some(started) = shared.started.get()
        && let Err(error) = started.pods.release(entry).await
    {
        tracing::warn!(pod, error = crate::chain(&error), "the interface is left; GC removes it");
    }
}

/// Would an ADD succeed, as far as it is not the pod's own fault?
fn available(shared: &Shared) -> Result<(), CniError> {
    let unavailable = |error: CniError| CniError { code: code::NOT_AVAILABLE, ..error };
    let started = started(shared).map_err(unavailable)?;
    let ranges = started.pods.ranges().map_err(|error| unavailable(told(&error)))?;
    if let Some(full) = ipam::full(&ranges, &started.pods.entries()) {
        return Err(unavailable(told(&PodError::Ipam(full))));
    }
    let fault = shared.in_force.borrow().fault.clone();
    if fault.is_empty() { Ok(()) } else { Err(self::fault(code::LIMITED, "the tables cannot be written", fault)) }
}

fn reply(result: Result<Option<CniResult>, CniError>) -> Answer {
    Ok(Response::new(match result {
        Ok(result) => CniReply { error: None, result },
        Err(error) => {
            tracing::warn!(code = error.code, details = error.details, "CNI: {}", error.msg);
            CniReply { error: Some(error), result: None }
        }
    }))
}

async fn add(shared: &Shared, request: &CniRequest) -> Result<(Entry, CniResult), CniError> {
    let entry = entry(request)?;
    let started = started(shared)?;
    let patience = match request.timeout_ms {
        0 => PATIENCE,
        limit => Duration::from_millis(u64::from(limit)).saturating_sub(RESERVE),
    };
    let (entry, made) = started.pods.add(entry, patience).await.map_err(|error| told(&error))?;
    let pod = format!("{}/{}", entry.namespace, entry.name);
    tracing::info!(pod, addresses = ?made.addresses, device = made.device, "the pod's interface is ready");
    let result = result(&made, request);
    Ok((entry, result))
}

async fn check(shared: &Shared, request: &CniRequest) -> Result<(), CniError> {
    let started = started(shared)?;
    let (_, made) = started.pods.check(&request.container_id, &request.ifname).await.map_err(|error| told(&error))?;
    let previous: Value = serde_json::from_str(&request.prev_result_json).unwrap_or_default();
    match differs(&previous, &result(&made, request)) {
        Some(what) => Err(fault(code::DIFFERS, "the pod's interface is not as prevResult says", what)),
        None => Ok(()),
    }
}

/// What of our own the result of ADD tells otherwise than it is now. Other plugins' interfaces are theirs to check.
pub fn differs(previous: &Value, now: &CniResult) -> Option<String> {
    let list = |name: &str| previous[name].as_array().cloned().unwrap_or_default();
    let told = list("interfaces");
    for interface in &now.interfaces {
        let name = &interface.name;
        let Some(old) = told.iter().find(|old| old["name"] == **name) else {
            return Some(format!("interfaces: {name} is not among them"));
        };
        for (field, value) in [("mac", &interface.mac), ("sandbox", &interface.sandbox)] {
            let old = old[field].as_str().unwrap_or_default();
            if !old.is_empty() && !old.eq_ignore_ascii_case(value) {
                return Some(format!("interfaces: {field} of {name} is {value}, not {old}"));
            }
        }
    }
    let addresses = list("ips");
    let missing = now.ips.iter().find(|ip| !addresses.iter().any(|old| old["address"] == *ip.address));
    missing.map(|ip| format!("ips: {} is not among them", ip.address))
}

/// `name` of a network configuration.
pub fn network(config_json: &str) -> String {
    let config: Value = serde_json::from_str(config_json).unwrap_or_default();
    config["name"].as_str().unwrap_or_default().to_owned()
}

/// The interface that a request is about.
///
/// # Errors
/// What is missing or wrong in it, in CNI's codes.
pub fn entry(request: &CniRequest) -> Result<Entry, CniError> {
    let arg = |name: &str| request.args.get(name).cloned().unwrap_or_default();
    let (namespace, name, uid) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME"), arg("K8S_POD_UID"));
    if namespace.is_empty() || name.is_empty() {
        let details = "without them nobody knows which policies are the pod's".to_owned();
        return Err(fault(code::INVALID_ENVIRONMENT, "CNI_ARGS has no K8S_POD_NAMESPACE and K8S_POD_NAME", details));
    }
    if request.netns.is_empty() {
        return Err(fault(code::INVALID_ENVIRONMENT, "CNI_NETNS is empty", String::new()));
    }
    Ok(Entry {
        container_id: request.container_id.clone(),
        ifname: request.ifname.clone(),
        namespace,
        name,
        uid,
        netns: request.netns.clone(),
        addresses: Vec::new(),
        device: String::new(),
        network: network(&request.config_json),
        wishes: Wishes::read(&request.config_json).map_err(|error| told(&error.into()))?,
    })
}

fn result(made: &Made, request: &CniRequest) -> CniResult {
    let end = |name: &str, mac, sandbox: &str| Interface {
        name: name.to_owned(),
        mac: crate::text::mac(mac),
        mtu: made.mtu,
        sandbox: sandbox.to_owned(),
    };
    let host = |ip: IpAddr| IpNetwork::from(ip).to_string();
    let way = |ip: &IpAddr| {
        let gateway = gateway(ip.is_ipv4());
        let near = gateway.is_ipv4().then(|| Route { dst: host(gateway), gw: String::new() });
        let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        near.into_iter().chain([Route { dst: everywhere.to_owned(), gw: gateway.to_string() }])
    };
    let ip = |ip: &IpAddr| Ip { address: host(*ip), gateway: gateway(ip.is_ipv4()).to_string(), interface: 1 };
    CniResult {
        interfaces: vec![end(&made.device, made.host_mac, ""), end(&request.ifname, made.mac, &request.netns)],
        ips: made.addresses.iter().map(ip).collect(),
        routes: made.addresses.iter().flat_map(way).collect(),
    }
}

fn started(shared: &Shared) -> Result<&Started, CniError> {
    shared.started.get().ok_or_else(|| later(&shared.not_ready().join("; ")))
}

fn later(why: &str) -> CniError {
    fault(code::TRY_LATER, "the agent is not ready yet", why.to_owned())
}

fn fault(code: u32, msg: &str, details: String) -> CniError {
    CniError { code, msg: msg.to_owned(), details }
}

fn told(error: &PodError) -> CniError {
    let (code, msg) = match error {
        PodError::Ipam(IpamError::Exhausted { .. }) => (code::NO_ADDRESS, "no address is left for the pod"),
        PodError::Ipam(IpamError::File { .. }) => (code::IO, "the ledger of addresses cannot be kept"),
        PodError::Wish(error) | PodError::Ipam(IpamError::Wish(error)) => {
            (error.code(), "what is asked of the pod's interface cannot be granted")
        }
        PodError::NotInForce(..)
        | PodError::NoRange
        | PodError::Removed
        | PodError::Ipam(IpamError::Resting { .. }) => (code::TRY_LATER, "the pod cannot have its interface yet"),
        PodError::InterfaceExists(_) => (code::INVALID_ENVIRONMENT, "CNI_IFNAME names an interface that is there"),
        PodError::Unknown(..) => (code::UNKNOWN_CONTAINER, "CNI_CONTAINERID and CNI_IFNAME are not known"),
        PodError::OwnNamespace(_) | PodError::Netns(NetnsError::Open { .. } | NetnsError::Enter { .. }) => {
            (code::INVALID_ENVIRONMENT, "CNI_NETNS cannot be entered")
        }
        PodError::Missing(_) => (code::DIFFERS, "the pod's interface is not as ADD made it"),
        PodError::Netlink(_) | PodError::Netns(_) | PodError::Load(_) => {
            (code::KERNEL, "the kernel refused the pod's interface")
        }
    };
    fault(code, msg, crate::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[(&str, &str)], netns: &str, expected: Option<u32>) {
        let args = args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = CniRequest { args, netns: netns.to_owned(), ..CniRequest::default() };
        assert_eq!(entry(&request).err().map(|error| error.code), expected);
    }

    #[test]
    fn requests_name_their_pod() {
        let pod = [("K8S_POD_NAMESPACE", "n"), ("K8S_POD_NAME", "p")];
        check(&pod, "/run/netns/x", None);
        check(&pod, "", Some(code::INVALID_ENVIRONMENT));
        check(&pod[..1], "/run/netns/x", Some(code::INVALID_ENVIRONMENT));
    }

    #[track_caller]
    fn check_previous(previous: &str, expected: Option<&str>) {
        let interface =
            |name: &str, mac: &str| Interface { name: name.into(), mac: mac.into(), ..Interface::default() };
        let now = CniResult {
            interfaces: vec![interface("weft1", "ee:ee:ee:ee:ee:ee"), interface("eth0", "0a:58:0a:f4:00:02")],
            ips: vec![Ip { address: "10.244.0.2/32".into(), ..Ip::default() }],
            routes: Vec::new(),
        };
        let previous = serde_json::from_str(previous).expect("JSON");
        assert_eq!(differs(&previous, &now).as_deref(), expected);
    }

    #[test]
    fn what_previous_results_tell() {
        let (near, far) = (r#"{"name":"weft1"}"#, r#"{"name":"eth0","mac":"0A:58:0a:f4:00:02"}"#);
        let ips = r#""ips":[{"address":"10.244.0.2/32"}]"#;
        check_previous(&format!(r#"{{"interfaces":[{{"name":"lo"}},{near},{far}],{ips}}}"#), None);
        check_previous(&format!(r#"{{"interfaces":[{near}],{ips}}}"#), Some("interfaces: eth0 is not among them"));
        let other = r#"{"name":"eth0","mac":"0a:58:0a:f4:00:03"}"#;
        let expected = "interfaces: mac of eth0 is 0a:58:0a:f4:00:02, not 0a:58:0a:f4:00:03";
        check_previous(&format!(r#"{{"interfaces":[{near},{other}],{ips}}}"#), Some(expected));
        let empty = format!(r#"{{"interfaces":[{near},{far}],"ips":[]}}"#);
        check_previous(&empty, Some("ips: 10.244.0.2/32 is not among them"));
    }

    #[test]
    fn an_exhausted_range_says_so() {
        let range = "10.0.0.0/29".parse().expect("a range");
        let error = told(&PodError::Ipam(IpamError::Exhausted { range, used: 5 }));
        assert_eq!(error.code, code::NO_ADDRESS);
        assert_eq!(error.details, "no address is left in 10.0.0.0/29: all 5 are in use");
    }
}
