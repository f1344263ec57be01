//! Questions to the kernel by netlink, one at a time, in the namespace of the calling thread.

use std::io;
use std::os::fd::RawFd;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// What the kernel lists.
pub(crate) fn list(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    ask(question, NLM_F_REQUEST | NLM_F_DUMP)
}

/// Tells the kernel to do something.
pub(super) fn order(order: RouteNetlinkMessage) -> io::Result<()> {
    ask(order, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// The number by which this namespace knows another one, if it does.
pub(super) fn number_of(other: RawFd) -> io::Result<Option<i32>> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(other.unsigned_abs()));
    let answers = ask(RouteNetlinkMessage::GetNsId(message), NLM_F_REQUEST)?;
    let attributes = answers.into_iter().flat_map(|answer| match answer {
        RouteNetlinkMessage::NewNsId(message) => message.attributes,
        _ => Vec::new(),
    });
    let mut numbers = attributes.filter_map(|attribute| match attribute {
        NsidAttribute::Id(number) => Some(number),
        _ => None,
    });
    Ok(numbers.next().filter(|number| *number >= 0))
}

fn ask(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(question);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = &received[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::other(error.to_string()))?;
            let length = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(error.to_io());
                }
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(answers),
                NetlinkPayload::InnerMessage(inner) => {
                    answers.push(inner);
                    if flags & NLM_F_DUMP != NLM_F_DUMP && flags & NLM_F_ACK == 0 {
                        return Ok(answers);
                    }
                }
                _ => {}
            }
            if length == 0 {
                break;
            }
        }
    }
}
