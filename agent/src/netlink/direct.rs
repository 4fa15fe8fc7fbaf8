//! rtnetlink without a runtime: requests go in one `sendmsg(2)`, and their answers are there when it returns, since the kernel
//! serves a request in the thread that sends it. Who makes an interface on a thread of its own needs no event loop for it.
//!
//! A [`Direct`] speaks for the network namespace of the thread that made it, for ever.
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike},
};
use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{Link, NetlinkError, link, request::Request};

/// Nobody waits longer for an answer, which is there already.
const PATIENCE: i64 = 10;
/// Larger than any answer to a request of ours.
pub(super) const ANSWER: usize = 64 << 10;

/// A connection to the kernel.
pub struct Direct {
    socket: Socket,
}

impl Direct {
    /// Opens a connection for the network namespace of this thread.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> Result<Direct, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
            Ok(Direct { socket })
        };
        open().map_err(no_socket)
    }

    /// Asks all of it, in this order: also what comes behind a refusal. What was answered.
    ///
    /// # Errors
    /// The first refusal.
    pub fn ask(&self, mut requests: Vec<Request>) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut bytes = Vec::new();
        for (number, request) in (1..).zip(&mut requests) {
            request.message.header.sequence_number = number;
            request.message.finalize();
            let start = bytes.len();
            // Messages begin at multiples of four.
            bytes.resize(start + request.message.buffer_len().next_multiple_of(4), 0);
            request.message.serialize(&mut bytes[start..]);
        }
        let Some(first) = requests.first() else { return Ok(Vec::new()) };
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(|error| first.refused(error))?;
        let (mut answers, mut left, mut refused) = (Vec::new(), requests.len(), None);
        while left > 0 {
            self.read(|message| match message.payload {
                NetlinkPayload::Error(error) => {
                    left -= 1;
                    let request = requests.get(message.header.sequence_number.wrapping_sub(1) as usize);
                    if let (Some(request), Some(_), None) = (request, error.code, &refused) {
                        refused = Some(request.refused(error.to_io()));
                    }
                }
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            })
            .map_err(|error| first.refused(error))?;
        }
        refused.map_or(Ok(answers), Err)
    }

    /// The device of that name.
    ///
    /// # Errors
    /// What the kernel said, that there is none apart.
    pub fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        match self.ask(vec![Request::find(name)]) {
            Ok(answers) => Ok(found(&answers)),
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes this very device, not another one of its name; false if it is gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn remove(&self, link: &Link) -> Result<bool, NetlinkError> {
        match self.ask(vec![Request::remove(link)]) {
            Ok(_) => Ok(true),
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&self, mut each: impl FnMut(NetlinkMessage<RouteNetlinkMessage>)) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(ANSWER);
        self.socket.recv(&mut bytes, 0)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
            rest = &rest[length..];
            each(message);
        }
        Ok(())
    }
}

/// The device among answers.
pub(crate) fn found(answers: &[RouteNetlinkMessage]) -> Option<Link> {
    answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(link(message)),
        _ => None,
    })
}

pub(super) fn no_socket(source: io::Error) -> NetlinkError {
    NetlinkError { operation: "open", object: "rtnetlink".into(), source }
}
