//! What a request asks for, and what a client reads at the end.
use super::*;

#[track_caller]
fn check(query: &str, expected: &Result<ExecRequest, u16>) {
    let found = asked(query).map_err(|(status, _)| status.as_u16());
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{query}");
}

#[test]
fn queries() {
    let command = vec!["sh".to_owned(), "-c".to_owned(), "echo a+b c%".to_owned()];
    let plain = ExecRequest { command, stdout: true, stderr: true, ..ExecRequest::default() };
    check("command=sh&command=-c&command=echo+a%2Bb+c%25&output=1&error=1", &Ok(plain));
    let terminal = ExecRequest { stdin: true, stdout: true, tty: true, ..ExecRequest::default() };
    check("input=1&output=1&error=1&tty=1", &Ok(terminal));
    check("command=ls", &Err(400));
    check("tty=1&error=1", &Err(400));
}

#[test]
fn the_end_is_a_status() {
    let command = ["sh".to_owned(), "-c".to_owned(), "exit 3".to_owned()];
    assert_eq!(status(&command, Ok(0)), json!({"metadata": {}, "status": "Success"}));
    let failed = status(&command, Ok(3));
    assert_eq!(failed["reason"], "NonZeroExitCode");
    assert_eq!(failed["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    assert_eq!(
        failed["message"],
        "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3"
    );
    let broken = status(&command, Err(Error::Helper { message: "no such file".to_owned() }));
    assert_eq!(broken["message"], "Internal error occurred: error executing command in container: no such file");
}
