//! CNI calls as the plugin hands them on (https://www.cni.dev/docs/spec/): arguments checked, errors in CNI's codes.
use std::{sync::Arc, time::Duration};

use agent_api::{
    code,
    v1::{
        CniError, CniGcRequest, CniReply, CniRequest, CniResult, CniStatusRequest,
        cni_result::{Interface, Ip, Route},
        cni_server::Cni,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    Shared, Started,
    ipam::{Entry, IpamError},
    netns::NetnsError,
    pods::{GATEWAY, Made, PodError},
};

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
        let request = request.into_inner();
        // On a task of its own: a caller that hangs up must not leave half an interface.
        let shared = self.0.clone();
        let work = tokio::spawn(async move { add(&shared, request).await });
        reply(work.await.unwrap_or_else(|_| Err(later("the call ended early"))).map(Some))
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
        let valid = request.into_inner().valid;
        let keep = |entry: &Entry| valid.iter().any(|valid| entry.is(&valid.container_id, &valid.ifname));
        let result = match started(&self.0) {
            Ok(started) => started.pods.collect(keep).await.map_err(|error| told(&error)),
            Err(error) => Err(error),
        };
        reply(result.map(|()| None))
    }

    async fn status(&self, _: Request<CniStatusRequest>) -> Answer {
        let result = started(&self.0).and_then(|started| started.pods.range().map_err(|error| told(&error)));
        let result = result.map_err(|error| CniError { code: code::NOT_AVAILABLE, ..error });
        reply(result.map(|_| None))
    }
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

async fn add(shared: &Shared, request: CniRequest) -> Result<CniResult, CniError> {
    let entry = entry(&request)?;
    let started = started(shared)?;
    let patience = match request.timeout_ms {
        0 => PATIENCE,
        limit => Duration::from_millis(u64::from(limit)).saturating_sub(RESERVE).min(PATIENCE),
    };
    let pod = format!("{}/{}", entry.namespace, entry.name);
    let made = started.pods.add(entry, patience).await.map_err(|error| told(&error))?;
    tracing::info!(pod, address = %made.address, device = made.device, "the pod's interface is ready");
    Ok(result(&made, &request))
}

async fn check(shared: &Shared, request: &CniRequest) -> Result<(), CniError> {
    let started = started(shared)?;
    let made = started.pods.check(&request.container_id, &request.ifname).await.map_err(|error| told(&error))?;
    let previous: serde_json::Value = serde_json::from_str(&request.prev_result_json).unwrap_or_default();
    let addresses: Vec<&str> =
        previous["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str()).collect();
    let own = format!("{}/32", made.address);
    if addresses.is_empty() || addresses.contains(&own.as_str()) {
        return Ok(());
    }
    Err(fault(code::DIFFERS, "the pod has another address than prevResult says", own))
}

/// The interface that a request is about.
fn entry(request: &CniRequest) -> Result<Entry, CniError> {
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
        address: std::net::Ipv4Addr::UNSPECIFIED,
        device: String::new(),
    })
}

fn result(made: &Made, request: &CniRequest) -> CniResult {
    let end = |name: &str, mac, sandbox: &str| Interface {
        name: name.to_owned(),
        mac: crate::text::mac(mac),
        mtu: made.mtu,
        sandbox: sandbox.to_owned(),
    };
    let gateway = GATEWAY.to_string();
    CniResult {
        interfaces: vec![end(&made.device, made.host_mac, ""), end(&request.ifname, made.mac, &request.netns)],
        ips: vec![Ip { address: format!("{}/32", made.address), gateway: gateway.clone(), interface: 1 }],
        routes: vec![
            Route { dst: format!("{gateway}/32"), gw: String::new() },
            Route { dst: "0.0.0.0/0".to_owned(), gw: gateway },
        ],
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
        PodError::NotInForce(..) | PodError::NoRange => (code::TRY_LATER, "the pod cannot have its interface yet"),
        PodError::InterfaceExists(_) => (code::INVALID_ENVIRONMENT, "CNI_IFNAME names an interface that is there"),
        PodError::Netns(NetnsError::Open { .. } | NetnsError::Enter { .. }) => {
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

    #[test]
    fn an_exhausted_range_says_so() {
        let range = "10.0.0.0/29".parse().expect("a range");
        let error = told(&PodError::Ipam(IpamError::Exhausted { range, used: 5 }));
        assert_eq!(error.code, code::NO_ADDRESS);
        assert_eq!(error.details, "no address is left in 10.0.0.0/29: all 5 are in use");
    }
}
