//! Cases of decoding: what is refused and how, what is pruned, what stays.

use serde_json::json;

use super::*;

fn pod(body: &Value) -> Result<Decoded, Status> {
    decode(Format::Json, body.to_string().as_bytes(), schema::row("", "v1", "pods"))
}

#[track_caller]
fn refused(body: &Value, message: &str) {
    let status = pod(body).unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (400, message));
}

#[test]
fn unknown_fields_are_pruned_and_named() {
    let body = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"foo": 1, "containers": [{"name": "a", "bar": {}}]}});
    let decoded = pod(&body).unwrap();
    assert_eq!(decoded.unknown, ["unknown field \"spec.foo\"", "unknown field \"spec.containers[0].bar\""]);
    assert_eq!(decoded.value["spec"], json!({"containers": [{"name": "a"}]}));
    let row = schema::row("", "v1", "pods").unwrap();
    let text = "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\", unknown field \
                \"spec.containers[0].bar\"";
    assert_eq!(strict_error(row, &decoded.unknown).message, text);
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let lead = "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal";
    refused(
        &json!({"spec": {"hostNetwork": "yes"}}),
        &format!("{lead} string into Go struct field PodSpec.spec.hostNetwork of type bool"),
    );
    refused(
        &json!({"spec": {"containers": {}}}),
        &format!("{lead} object into Go struct field PodSpec.spec.containers of type []v1.Container"),
    );
    let port = json!({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}});
    refused(
        &port,
        &format!("{lead} string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
    );
    refused(
        &json!({"metadata": {"labels": {"a": 1}}}),
        &format!("{lead} number into Go struct field ObjectMeta.metadata.labels of type string"),
    );
    refused(&json!([]), &format!("{lead} array into Go value of type v1.Pod"));
    let cpu = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}});
    assert!(pod(&cpu).unwrap_err().message.contains("quantities must match the regular expression"));
}

#[test]
fn kinds_and_versions_must_fit() {
    let lead = "the API version in the data";
    refused(
        &json!({"kind": "Event", "apiVersion": "events.k8s.io/v1"}),
        &format!("{lead} (events.k8s.io/v1) does not match the expected API version (v1)"),
    );
    let text = "Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion";
    refused(&json!({"kind": "Service", "apiVersion": "v1"}), text);
    let decoded = pod(&json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!((&decoded.value["kind"], &decoded.value["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(decode(Format::Json, b"{}", None).unwrap_err().message, "Object 'Kind' is missing in '{}'");
}

#[test]
fn unset_values_are_left_out() {
    let body = json!({
        "metadata": {"name": "a", "creationTimestamp": null, "labels": {}, "annotations": {"x": null}},
        "spec": {"containers": [{"name": "c", "args": [], "env": [{"name": "E", "value": ""}], "stdin": false}], "nodeName": "",
                 "hostNetwork": false, "automountServiceAccountToken": false, "volumes": [{"name": "v", "emptyDir": {}}]},
    });
    let value = pod(&body).unwrap().value;
    assert_eq!(value["metadata"], json!({"name": "a", "annotations": {"x": ""}}));
    let spec = json!({"containers": [{"name": "c", "env": [{"name": "E"}]}], "automountServiceAccountToken": false,
                      "volumes": [{"name": "v", "emptyDir": {}}]});
    assert_eq!(value["spec"], spec);
}

#[test]
fn times_and_quantities_are_canonical() {
    let body = json!({
        "metadata": {"creationTimestamp": "2026-01-01T01:00:00+01:00"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
    });
    let value = pod(&body).unwrap().value;
    assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(value["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
}

#[test]
fn options_are_found_by_their_kind() {
    let value =
        decode_options("DeleteOptions", Format::Json, br#"{"propagationPolicy":"Background","gracePeriodSeconds":0}"#)
            .unwrap();
    assert_eq!((&value["propagationPolicy"], &value["gracePeriodSeconds"]), (&json!("Background"), &json!(0)));
    let scale = decode_options(
        "Scale",
        Format::Json,
        br#"{"kind":"Scale","apiVersion":"autoscaling/v1","spec":{"replicas":2}}"#,
    )
    .unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);
    assert!(decode_options("Scale", Format::Json, br#"{"kind":"Pod"}"#).is_err());
}

#[test]
fn rubbish_is_shown() {
    let status = decode(Format::Json, b"rubbish", schema::row("", "v1", "pods")).unwrap_err();
    assert!(status.message.starts_with(
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error:"
    ));
    assert!(status.message.ends_with("(72756262697368)"), "{status}");
}

#[test]
fn broken_bodies_are_answers_not_crashes() {
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-11-21T03:17:00Z"},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}]},
    });
    let bodies = [(Format::Json, pod.to_string().into_bytes()), (Format::Protobuf, pb::encode(&pod).unwrap())];
    let row = schema::row("", "v1", "pods").unwrap();
    let mut seed = 1u64;
    for (format, body) in bodies {
        for _ in 0..20_000 {
            let mut broken = body.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % broken.len();
                broken[at] = u8::try_from(seed >> 24 & 0xff).unwrap();
            }
            // Whatever is still an object goes the whole way through the pure half.
            if let Ok(decoded) = decode(format, &broken, Some(row)) {
                let mut value = decoded.value;
                let ctx = crate::registry::Ctx { row, now: jiff::Timestamp::UNIX_EPOCH, user: "", subresource: None };
                crate::registry::default(row, &mut value);
                crate::registry::prepare_create(&ctx, &mut value);
                crate::registry::validate_create(&ctx, &value);
                crate::print::table(row, &[&value], crate::print::IncludeObject::None, Value::Null, ctx.now, false);
            }
        }
    }
}

#[test]
fn yaml_is_taken() {
    let body = b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: c\n    image: i\n";
    let decoded = decode(Format::Yaml, body, schema::row("", "v1", "pods")).unwrap();
    assert_eq!(decoded.value["spec"]["containers"][0]["image"], "i");
}
