//! Services, Endpoints, EndpointSlices, Ingresses, NetworkPolicies and addresses.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, cell};
use crate::path;

/// How many addresses or ports fit into a cell.
const MAX: usize = 3;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "Service" => ("Name|Type|Cluster-IP|External-IP|Port(s)|Age|*Selector", service),
        "Endpoints" => ("Name|Endpoints|Age", endpoints),
        "EndpointSlice" => ("Name|AddressType|Ports|Endpoints|Age", endpoint_slice),
        "Ingress" => ("Name|Class|Hosts|Address|Ports|Age", ingress),
        "IngressClass" => ("Name|Controller|Parameters|Age", ingress_class),
        "NetworkPolicy" => ("Name|Pod-Selector|Age", |object, now| {
            vec![
                cell::name(object),
                json!(cell::selector(path::get(object, "spec.podSelector"))),
                cell::age(object, now),
            ]
        }),
        "ServiceCIDR" => ("Name|CIDRs|Age", |object, now| {
            let cidrs: Vec<&str> = path::list(object, "spec.cidrs").iter().filter_map(Value::as_str).collect();
            vec![cell::name(object), json!(cidrs.join(",")), cell::age(object, now)]
        }),
        "IPAddress" => ("Name|ParentRef", |object, _| vec![cell::name(object), json!(parent(object))]),
        _ => return None,
    };
    Some(View { columns, cells })
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ip = match path::list(object, "spec.clusterIPs").first().and_then(Value::as_str) {
        Some(ip) => ip,
        None => cell::text(object, "spec.clusterIP", cell::NONE),
    };
    let ports: Vec<String> = path::list(object, "spec.ports").iter().map(service_port).collect();
    vec![
        cell::name(object),
        json!(path::str(object, "spec.type")),
        json!(ip),
        json!(external_ip(object)),
        json!(if ports.is_empty() { cell::NONE.to_owned() } else { ports.join(",") }),
        cell::age(object, now),
        json!(cell::labels(path::map(object, "spec.selector"))),
    ]
}

fn service_port(port: &Value) -> String {
    let (number, protocol) = (path::int(port, "port").unwrap_or(0), path::str(port, "protocol"));
    match path::int(port, "nodePort").unwrap_or(0) {
        0 => format!("{number}/{protocol}"),
        node => format!("{number}:{node}/{protocol}"),
    }
}

fn external_ip(object: &Value) -> String {
    let ips: Vec<&str> = path::list(object, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match path::str(object, "spec.type") {
        "ExternalName" => path::str(object, "spec.externalName").to_owned(),
        "LoadBalancer" => {
            let mut all = balancer_addresses(object);
            all.extend(ips);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if ips.is_empty() => cell::NONE.to_owned(),
        _ => ips.join(","),
    }
}

fn balancer_addresses(object: &Value) -> Vec<&str> {
    let ingress = path::list(object, "status.loadBalancer.ingress").iter();
    ingress.map(|i| cell::text(i, "ip", path::str(i, "hostname"))).filter(|text| !text.is_empty()).collect()
}

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut list = Vec::new();
    for subset in path::list(object, "subsets") {
        let ports = path::list(subset, "ports");
        let addresses = || path::list(subset, "addresses").iter().map(|a| path::str(a, "ip"));
        if ports.is_empty() {
            list.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let number = path::int(port, "port").unwrap_or(0);
            list.extend(
                addresses()
                    .map(|ip| if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }),
            );
        }
    }
    vec![cell::name(object), json!(cell::few(&list, MAX, cell::NONE)), cell::age(object, now)]
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |p: &Value| match path::int(p, "port") {
        Some(number) => number.to_string(),
        None => cell::text(p, "name", "*").to_owned(),
    };
    let ports: Vec<String> = path::list(object, "ports").iter().map(port).collect();
    let addresses = path::list(object, "endpoints").iter().flat_map(|e| path::list(e, "addresses"));
    let addresses: Vec<String> = addresses.filter_map(|a| a.as_str().map(str::to_owned)).collect();
    vec![
        cell::name(object),
        json!(path::str(object, "addressType")),
        json!(cell::few(&ports, MAX, cell::UNSET)),
        json!(cell::few(&addresses, MAX, cell::UNSET)),
        cell::age(object, now),
    ]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let hosts = path::list(object, "spec.rules").iter().map(|r| path::str(r, "host")).filter(|h| !h.is_empty());
    let hosts: Vec<String> = hosts.map(str::to_owned).collect();
    vec![
        cell::name(object),
        json!(cell::text(object, "spec.ingressClassName", cell::NONE)),
        json!(cell::few(&hosts, MAX, "*")),
        json!(balancer_addresses(object).join(",")),
        json!(if path::list(object, "spec.tls").is_empty() { "80" } else { "80, 443" }),
        cell::age(object, now),
    ]
}

fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = path::get(object, "spec.parameters");
    let shown = match (path::str(parameters, "kind"), path::str(parameters, "apiGroup")) {
        ("", _) => cell::NONE.to_owned(),
        (kind, "") => format!("{kind}/{}", path::str(parameters, "name")),
        (kind, group) => format!("{kind}.{group}/{}", path::str(parameters, "name")),
    };
    vec![cell::name(object), json!(path::str(object, "spec.controller")), json!(shown), cell::age(object, now)]
}

fn parent(object: &Value) -> String {
    let parent = path::get(object, "spec.parentRef");
    let (group, resource) = (path::str(parent, "group"), path::str(parent, "resource"));
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let parts = [resource.as_str(), path::str(parent, "namespace"), path::str(parent, "name")];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/")
}
