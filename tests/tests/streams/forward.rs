//! Port-forwards, and the connections that the test makes through them.
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use tests::Kubectl;

/// A running port-forward.
pub(crate) struct Forward {
    child: Child,
    /// On this machine.
    pub(crate) port: u16,
}

impl Forward {
    /// Starts a port-forward and waits until it listens.
    #[track_caller]
    pub(crate) fn start(kubectl: &Kubectl, target: &str, port: &str) -> Forward {
        let mut command = kubectl.command();
        command.args(["port-forward", "--address", "127.0.0.1", target, port]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        // kubectl writes a line for each connection: somebody must read them.
        thread::spawn(move || lines.for_each(drop));
        let number = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        let port = number.and_then(|number| number.parse().ok());
        let mut forward = Forward { child, port: 0 };
        forward.port = port.unwrap_or_else(|| panic!("{target}: {line:?}"));
        forward
    }

    /// Ends it and returns what it complained about.
    pub(crate) fn errors(mut self) -> String {
        let mut stderr = self.child.stderr.take().expect("piped");
        let _ = self.child.kill();
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `/` and returns the body; empty if there is none.
pub(crate) fn get(port: u16) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let _ = stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
        let mut text = String::new();
        // A connection that is refused behind kubectl may end as a reset.
        let _ = stream.read_to_string(&mut text);
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    })
}
