//! A pod's spec: policies, names, volumes and containers together.

use serde_json::Value;

use super::{container, security, volume};
use crate::{
    path,
    registry::{meta, names},
    status::FieldError,
};

/// What is wrong with a pod's spec at a path.
pub(in crate::registry) fn validate(spec: &Value, at: &str) -> Vec<FieldError> {
    let (mut errors, volumes) = volume::validate(path::list(spec, "volumes"), &format!("{at}.volumes"));
    let around = container::Around {
        volumes: &volumes,
        host_network: path::bool(spec, "hostNetwork"),
        grace: path::int(spec, "terminationGracePeriodSeconds"),
    };
    errors.extend(container::validate_all(spec, at, &around));
    errors.extend(policies(spec, at));
    errors.extend(meta::labels(spec, "nodeSelector", &format!("{at}.nodeSelector")));
    errors.extend(names_of(spec, at));
    errors.extend(seconds(spec, at));
    errors.extend(security_context(spec, at));
    errors.extend(tolerations(path::list(spec, "tolerations"), &format!("{at}.tolerations")));
    errors.extend(spread(path::list(spec, "topologySpreadConstraints"), &format!("{at}.topologySpreadConstraints")));
    for (i, alias) in path::list(spec, "hostAliases").iter().enumerate() {
        let ip = path::str(alias, "ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(format!("{at}.hostAliases[{i}].ip"), ip, detail));
        }
    }
    errors
}

fn policies(spec: &Value, at: &str) -> Vec<FieldError> {
    const RESTART: &[&str] = &["Always", "OnFailure", "Never"];
    const DNS: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    const PREEMPTION: &[&str] = &["PreemptLowerPriority", "Never"];
    let mut errors = Vec::new();
    for (key, allowed, needed) in
        [("restartPolicy", RESTART, true), ("dnsPolicy", DNS, true), ("preemptionPolicy", PREEMPTION, false)]
    {
        let value = path::str(spec, key);
        let field = format!("{at}.{key}");
        if value.is_empty() && needed {
            errors.push(FieldError::required(field, ""));
        } else if !value.is_empty() && !allowed.contains(&value) {
            errors.push(FieldError::not_supported(field, value, allowed));
        }
    }
    if path::str(spec, "dnsPolicy") == "None" && path::list(spec, "dnsConfig.nameservers").is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(format!("{at}.dnsConfig"), detail));
    }
    errors
}

fn names_of(spec: &Value, at: &str) -> Vec<FieldError> {
    let rules: [(&str, names::Rule); 6] = [
        ("nodeName", names::dns1123_subdomain),
        ("serviceAccountName", names::dns1123_subdomain),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
    ];
    let mut errors = Vec::new();
    for (key, rule) in rules {
        let value = path::str(spec, key);
        if !value.is_empty() {
            errors.extend(rule(value).into_iter().map(|e| FieldError::invalid(format!("{at}.{key}"), value, e)));
        }
    }
    errors
}

fn seconds(spec: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(value) = path::int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&value)
    {
        errors.push(FieldError::invalid(
            format!("{at}.activeDeadlineSeconds"),
            value,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    if let Some(value) = path::int(spec, "terminationGracePeriodSeconds").filter(|v| *v < 0) {
        errors.push(FieldError::invalid(
            format!("{at}.terminationGracePeriodSeconds"),
            value,
            "must be greater than or equal to 0",
        ));
    }
    errors
}

fn security_context(spec: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(value) = path::int(path::get(spec, "securityContext"), key)
            && !(0..=i64::from(i32::MAX)).contains(&value)
        {
            errors.push(FieldError::invalid(
                format!("{at}.securityContext.{key}"),
                value,
                "must be between 0 and 2147483647, inclusive",
            ));
        }
    }
    let seccomp = path::get(spec, "securityContext.seccompProfile");
    errors.extend(security::seccomp(seccomp, &format!("{at}.securityContext.seccompProfile")));
    if path::bool(spec, "shareProcessNamespace") && path::bool(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{at}.shareProcessNamespace"), true, detail));
    }
    errors
}

/// What is wrong with tolerations.
pub(in crate::registry) fn tolerations(list: &[Value], at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, toleration) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let (key, operator, value) =
            (path::str(toleration, "key"), path::str(toleration, "operator"), path::str(toleration, "value"));
        if !key.is_empty() {
            errors.extend(
                names::qualified_name(key).into_iter().map(|e| FieldError::invalid(format!("{at}.key"), key, e)),
            );
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(format!("{at}.operator"), operator, detail));
        }
        let effect = path::str(toleration, "effect");
        if path::int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(format!("{at}.effect"), effect, detail));
        }
        match operator {
            "Equal" | "" => {
                errors.extend(
                    names::label_value(value)
                        .into_iter()
                        .map(|e| FieldError::invalid(format!("{at}.operator"), value, e)),
                );
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(format!("{at}.operator"), toleration.clone(), detail));
            }
            "Exists" => {}
            other => errors.push(FieldError::not_supported(format!("{at}.operator"), other, &["Equal", "Exists"])),
        }
        if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            errors.push(FieldError::not_supported(
                format!("{at}.effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ));
        }
    }
    errors
}

fn spread(list: &[Value], at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, constraint) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let skew = path::int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{at}.maxSkew"), skew, "must be greater than zero"));
        }
        if path::str(constraint, "topologyKey").is_empty() {
            errors.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let action = path::str(constraint, "whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(FieldError::not_supported(
                format!("{at}.whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
    }
    errors
}
