//! Configurations, taken and refused.
use super::*;

#[track_caller]
fn check(text: &str, expected: Result<&str, u32>) {
    let parsed = Config::parse(text);
    assert_eq!(parsed.as_ref().map(|config| config.version.as_str()).map_err(|failure| failure.code), expected);
}

/// A configuration with more fields.
fn with(fields: &str) -> String {
    format!(r#"{{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"{fields}}}"#)
}

#[test]
fn parsed_or_refused() {
    check(&with(r#","socket":"/run/s""#), Ok("1.1.0"));
    check(r#"{"cniVersion":"0.3.1","name":"weft","type":"weft-cni","unknown":[1]}"#, Ok("0.3.1"));
    check(r#"{"cniVersion":"0.2.0","name":"weft","type":"weft-cni"}"#, Err(code::INCOMPATIBLE_VERSION));
    check(r#"{"name":"weft","type":"weft-cni"}"#, Err(code::INCOMPATIBLE_VERSION));
    check(r#"{"cniVersion":"1.1.0","name":"","type":"weft-cni"}"#, Err(code::INVALID_CONFIG));
    check(r#"{"cniVersion":"1.1.0","name":"-w","type":"weft-cni"}"#, Err(code::INVALID_CONFIG));
    check(r#"{"cniVersion":"1.1.0","name":"a/b","type":"weft-cni"}"#, Err(code::INVALID_CONFIG));
    check(r#"{"cniVersion":"1.1.0","name":"w"}"#, Err(code::INVALID_CONFIG));
    check(r#"{"cniVersion":1,"name":"w","type":"t"}"#, Err(code::INVALID_CONFIG));
    check("", Err(code::DECODE));
    check("{", Err(code::DECODE));
    check("[]", Err(code::DECODE));
}

#[test]
fn fields_of_ours() {
    check(&with(r#","socket":"s""#), Err(code::INVALID_CONFIG));
    check(&with(r#","timeoutSeconds":5"#), Ok("1.1.0"));
    check(&with(r#","timeoutSeconds":0"#), Err(code::INVALID_CONFIG));
    check(&with(r#","timeoutSeconds":"5""#), Err(code::INVALID_CONFIG));
    check(&with(r#","prevResult":{"ips":[]}"#), Ok("1.1.0"));
    check(&with(r#","prevResult":"x""#), Err(code::INVALID_CONFIG));
}

#[test]
fn what_is_not_done_here_is_refused() {
    check(&with(r#","ipam":{"type":"host-local"}"#), Err(code::UNSUPPORTED_FIELD));
    check(&with(r#","ipam":{}"#), Ok("1.1.0"));
    check(&with(r#","runtimeConfig":{"portMappings":[{"hostPort":1}]}"#), Ok("1.1.0"));
    check(&with(r#","runtimeConfig":{"ipRanges":[["10.0.0.0/8"]]}"#), Err(code::UNSUPPORTED_FIELD));
    check(&with(r#","runtimeConfig":{"portMappings":[],"dns":{"searches":[]}}"#), Ok("1.1.0"));
}

#[track_caller]
fn check_command(command: Command, version: &str, fields: &str, expected: Result<(), u32>) {
    let text = format!(r#"{{"cniVersion":"{version}","name":"w","type":"t"{fields}}}"#);
    let result = Config::parse(&text).expect("valid").suits(command);
    assert_eq!(result.map_err(|failure| failure.code), expected);
}

#[test]
fn commands_and_what_they_need() {
    let (previous, valid) = (r#","prevResult":{}"#, r#","cni.dev/valid-attachments":[]"#);
    check_command(Command::Add, "0.3.1", "", Ok(()));
    check_command(Command::Del, "0.3.1", "", Ok(()));
    check_command(Command::Check, "0.3.1", previous, Err(code::INCOMPATIBLE_VERSION));
    check_command(Command::Check, "0.4.0", previous, Ok(()));
    check_command(Command::Check, "1.1.0", "", Err(code::INVALID_CONFIG));
    check_command(Command::Gc, "1.0.0", valid, Err(code::INCOMPATIBLE_VERSION));
    check_command(Command::Gc, "1.1.0", valid, Ok(()));
    check_command(Command::Gc, "1.1.0", "", Err(code::INVALID_CONFIG));
    check_command(Command::Status, "1.0.0", "", Err(code::INCOMPATIBLE_VERSION));
    check_command(Command::Status, "1.1.0", "", Ok(()));
}

#[test]
fn attachments_of_gc() {
    let listed = with(r#","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]"#);
    let valid = Config::parse(&listed).expect("valid").valid.expect("given");
    assert_eq!(valid[0].container_id, "a");
    check(&with(r#","cni.dev/valid-attachments":[{"containerID":"a"}]"#), Err(code::INVALID_CONFIG));
    check(&with(r#","cni.dev/valid-attachments":{}"#), Err(code::INVALID_CONFIG));
}
