//! Who may connect to whom, by the slow reading of the policy API (`policy::reference`), and who does.
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use datapath::parse::TCP;
use objects::{Object, Store};
use policy::{
    Input,
    reference::{Packet, allows},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    bed::{Bed, FIELD, Pod, within},
    change,
};

/// Ports of every pod that are tried.
const PORTS: [u16; 2] = [8080, 8083];
/// A connection that is not there after this is denied.
const DENIED: Duration = Duration::from_millis(700);
/// How long the packets may take to do what the objects say.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source's name, a target's, and whether the connection passes.
pub(crate) type Verdicts = BTreeMap<(String, String), bool>;

/// What is tried.
pub(crate) struct Plan {
    sources: Vec<(Pod, Vec<(String, SocketAddr)>)>,
    pub(crate) expected: Verdicts,
}

fn store<T: Object + DeserializeOwned>(bed: &Bed, path: &str) -> Store<T> {
    let parsed = bed.api.items(path).into_iter().map(|object| serde_json::from_value::<T>(object).unwrap());
    parsed.map(|object| (object.key().clone(), Arc::new(object))).collect()
}

impl Plan {
    /// Of the pods of the field and the sender of the steady traffic, each to each pod of the field, and of the sender to
    /// each Service of the field.
    pub(crate) fn new(bed: &Bed, known: &[Pod]) -> Plan {
        let pods: Store<objects::Pod> = store(bed, "/api/v1/pods");
        let namespaces = store(bed, "/api/v1/namespaces");
        let policies = store(bed, "/apis/networking.k8s.io/v1/networkpolicies");
        let input = Input { pods: &pods, namespaces: &namespaces, policies: &policies, local: &[] };
        let object = |pod: &Pod| &pods[&objects::Key::new(pod.namespace.as_str(), pod.name.as_str())];
        let may = |from: &Pod, to: &Pod, port: u16| {
            let packet = |ingress, peer| Packet { ingress, peer, proto: TCP, port };
            allows(&input, object(from), &packet(false, to.address))
                && allows(&input, object(to), &packet(true, from.address))
        };
        let field: Vec<&Pod> = known.iter().filter(|pod| pod.namespace == FIELD).collect();
        let sender = known.iter().find(|pod| pod.name == change::SENDER).expect("the sender stays");
        let mut plan = Plan { sources: Vec::new(), expected: Verdicts::new() };
        for from in field.iter().copied().chain([sender]) {
            let mut targets = Vec::new();
            for to in field.iter().filter(|to| to.uid != from.uid) {
                for port in PORTS {
                    let name = format!("{}:{port}", to.name);
                    plan.expected.insert((from.name.clone(), name.clone()), may(from, to, port));
                    targets.push((name, SocketAddr::new(to.address, port)));
                }
            }
            plan.sources.push((from.clone(), targets));
        }
        for service in bed.api.items(&format!("/api/v1/namespaces/{FIELD}/services")) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let app = &service["spec"]["selector"]["app"];
            let behind = field.iter().filter(|pod| pod.labels["app"] == *app).map(|to| may(sender, to, 8083));
            let mut verdicts: Vec<bool> = behind.collect();
            verdicts.dedup();
            // With some behind it that may be reached and some that may not, it is as chance has it.
            if let ([] | [_], Ok(address)) = (&verdicts[..], text(&service["spec"]["clusterIP"]).parse::<IpAddr>()) {
                let name = text(&service["metadata"]["name"]);
                plan.expected.insert((sender.name.clone(), name.clone()), verdicts.first() == Some(&true));
                plan.sources.last_mut().expect("the sender").1.push((name, SocketAddr::new(address, 8083)));
            }
        }
        plan
    }

    /// Tries everything once, all at the same time.
    fn look(&self, bed: &Bed) -> Verdicts {
        thread::scope(|scope| {
            let one = |(from, targets): &(Pod, Vec<(String, SocketAddr)>)| match bed.pod_netns(from) {
                Some(netns) => netns.run(|| dial(targets)).unwrap(),
                None => targets.iter().map(|_| false).collect(),
            };
            let asked: Vec<_> = self.sources.iter().map(|source| (source, scope.spawn(move || one(source)))).collect();
            let told = asked.into_iter().flat_map(|((from, targets), thread)| {
                let verdicts = thread.join().unwrap();
                targets.iter().map(|(to, _)| (from.name.clone(), to.clone())).zip(verdicts).collect::<Vec<_>>()
            });
            told.collect()
        })
    }

    /// Where the packets do something else than the objects say, after some time for the tables.
    pub(crate) fn differences(&self, bed: &Bed) -> Vec<String> {
        let same = || {
            let different = self.compare(&self.look(bed));
            if different.is_empty() { Ok(()) } else { Err(different.join("\n")) }
        };
        within(PATIENCE, same).err().into_iter().collect()
    }

    /// What passes at this moment and may not: nothing has changed, so there is nothing to wait for.
    pub(crate) fn passes_wrongly(&self, bed: &Bed) -> Vec<String> {
        let seen = self.look(bed);
        let wrong = seen.iter().filter(|(flow, passes)| **passes && !self.expected[flow]);
        wrong.map(|((from, to), _)| format!("{from} to {to} passes and may not")).collect()
    }

    fn compare(&self, seen: &Verdicts) -> Vec<String> {
        let different = self.expected.iter().filter(|(flow, expected)| seen[flow] != **expected);
        let words = |expected: bool| if expected { "does not pass and may" } else { "passes and may not" };
        different.map(|((from, to), expected)| format!("{from} to {to} {}", words(*expected))).collect()
    }
}

/// In the network of the thread that calls, which those that it starts inherit.
fn dial(targets: &[(String, SocketAddr)]) -> Vec<bool> {
    thread::scope(|scope| {
        let dialled: Vec<_> =
            targets.iter().map(|(_, to)| scope.spawn(move || TcpStream::connect_timeout(to, DENIED).is_ok())).collect();
        dialled.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
