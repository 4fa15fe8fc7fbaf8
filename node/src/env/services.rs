//! The variables that tell a pod of services: `{NAME}_SERVICE_HOST`, `{NAME}_SERVICE_PORT` and the docker-link kind. Pure.

use k8s_openapi::api::core::v1::Service;

/// Services that a pod of `namespace` is told of: its namespace's where it wants links, and `default/kubernetes` always.
pub(crate) fn visible<'a>(services: &'a [std::sync::Arc<Service>], namespace: &str, links: bool) -> Vec<&'a Service> {
    let of = |service: &Service, wanted: &str| service.metadata.namespace.as_deref() == Some(wanted);
    let is_kubernetes = |service: &Service| service.metadata.name.as_deref() == Some("kubernetes");
    let own_kubernetes = links && services.iter().any(|service| of(service, namespace) && is_kubernetes(service));
    let wanted = |service: &Service| {
        (links && of(service, namespace)) || (of(service, "default") && is_kubernetes(service) && !own_kubernetes)
    };
    let mut visible: Vec<&Service> =
        services.iter().map(AsRef::as_ref).filter(|service| wanted(service) && cluster_ip(service).is_some()).collect();
    visible.sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
    visible
}

fn cluster_ip(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")
}

/// The variables of all given services, in their order.
pub(crate) fn variables(services: &[&Service]) -> Vec<(String, String)> {
    services.iter().flat_map(|service| of_service(service)).collect()
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let (Some(ip), Some(spec)) = (cluster_ip(service), &service.spec) else { return Vec::new() };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let name = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut vars =
        vec![(format!("{name}_SERVICE_HOST"), ip.to_owned()), (format!("{name}_SERVICE_PORT"), first.port.to_string())];
    for port in ports.iter().filter(|port| port.name.as_deref().is_some_and(|name| !name.is_empty())) {
        vars.push((
            format!("{name}_SERVICE_PORT_{}", upper(port.name.as_deref().unwrap_or_default())),
            port.port.to_string(),
        ));
    }
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (at, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if at == 0 {
            vars.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        vars.push((prefix.clone(), url));
        vars.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        vars.push((format!("{prefix}_PORT"), port.port.to_string()));
        vars.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    vars
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str, ports: &serde_json::Value) -> Arc<Service> {
        let value = serde_json::json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": ports}});
        Arc::new(serde_json::from_value(value).expect("a service"))
    }

    #[test]
    fn all_variables_of_a_service() {
        let backend = service(
            "shop",
            "my-backend",
            "10.96.0.7",
            &serde_json::json!([{"name": "web-a", "port": 80, "protocol": "TCP"}]),
        );
        let found: Vec<String> =
            variables(&[&backend]).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "MY_BACKEND_SERVICE_HOST=10.96.0.7",
            "MY_BACKEND_SERVICE_PORT=80",
            "MY_BACKEND_SERVICE_PORT_WEB_A=80",
            "MY_BACKEND_PORT=tcp://10.96.0.7:80",
            "MY_BACKEND_PORT_80_TCP=tcp://10.96.0.7:80",
            "MY_BACKEND_PORT_80_TCP_PROTO=tcp",
            "MY_BACKEND_PORT_80_TCP_PORT=80",
            "MY_BACKEND_PORT_80_TCP_ADDR=10.96.0.7",
        ];
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check(namespace: &str, links: bool, expected: &[&str]) {
        let port = serde_json::json!([{"port": 1}]);
        let services = [
            service("default", "kubernetes", "10.96.0.1", &port),
            service("default", "other", "10.96.0.2", &port),
            service("shop", "backend", "10.96.0.3", &port),
            service("shop", "headless", "None", &port),
        ];
        let found: Vec<&str> = visible(&services, namespace, links)
            .iter()
            .filter_map(|service| service.metadata.name.as_deref())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn which_services_a_pod_is_told_of() {
        check("shop", true, &["kubernetes", "backend"]);
        check("shop", false, &["kubernetes"]);
        check("default", true, &["kubernetes", "other"]);
        check("empty", true, &["kubernetes"]);
    }
}
