//! Services and what they resolve to. Endpoints and slices are read and written, so their projections are whole.

use super::{IntOrString, Map, Meta, Reference, view};

view! {
    Service {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: ServiceSpec,
    }
    ServiceSpec {
        selector: Map,
        ports: Vec<ServicePort>,
        #[serde(rename = "type")]
        type_: String,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        ip_families: Vec<String>,
        publish_not_ready_addresses: bool,
    }
    ServicePort {
        name: String,
        port: u16,
        protocol: String,
        app_protocol: Option<String>,
        target_port: Option<IntOrString>,
    }
    Slice {
        #[serde(rename = "metadata")]
        meta: Meta,
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    }
    Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_ref: Option<Reference>,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
    }
    EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
    #[derive(Eq, PartialOrd, Ord)]
    EndpointPort {
        name: Option<String>,
        port: Option<u16>,
        protocol: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        app_protocol: Option<String>,
    }
    Endpoints {
        #[serde(rename = "metadata")]
        meta: Meta,
        subsets: Vec<Subset>,
    }
    Subset {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<Address>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        not_ready_addresses: Vec<Address>,
        ports: Vec<SubsetPort>,
    }
    Address {
        ip: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        node_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_ref: Option<Reference>,
    }
    #[derive(Eq, PartialOrd, Ord)]
    SubsetPort {
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        port: u16,
        protocol: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        app_protocol: Option<String>,
    }
}
