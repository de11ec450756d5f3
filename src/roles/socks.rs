//! The SOCKS port (socks-extensions; RFC 1928, 1929). Garbage is hung up on.

use std::io;
use std::rc::Rc;

use cepa_client::Protocol;
use cepa_wire::host::Host;
use cepa_wire::socks::{self, Handshake, Progress, SocksRequest, SocksStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::applications::{Answer, Applications, Asked, Visitor, host_of};
use crate::net::edge::Socket;

/// Serves one connection to a port.
pub(crate) async fn serve<S: Socket>(
    applications: Rc<Applications>,
    mut tcp: S,
    visitor: Visitor,
) -> io::Result<()> {
    let asked = tokio::time::timeout(applications.request_max(), read_request(&mut tcp));
    let Ok(asked) = asked.await else {
        visitor.place.timed_out();
        return Err(io::ErrorKind::TimedOut.into());
    };
    let (request, early) = asked?;
    let protocol = Protocol::Socks(request.version);
    let asked = Asked {
        early,
        ..Asked::by(&visitor, protocol, request)
    };
    applications.serve(tcp, asked, reply).await
}

fn reply(request: &SocksRequest, answer: &Answer) -> Vec<u8> {
    let (status, host, port) = match answer {
        Answer::Connected { bound, .. } => {
            (SocksStatus::SUCCEEDED, bound.map(Host::Ip), request.port)
        }
        Answer::Resolved(answers) => match answers.iter().find_map(host_of) {
            Some(host) => (SocksStatus::SUCCEEDED, Some(host), 0),
            None => (SocksStatus::HOST_UNREACHABLE, None, 0),
        },
        Answer::Failed(status) => (*status, None, 0),
    };
    let bound = host.as_ref().map(|host| (host, port));
    socks::reply(request.version, status, bound)
}

async fn read_request<S: Socket>(tcp: &mut S) -> io::Result<(SocksRequest, Vec<u8>)> {
    let mut handshake = Handshake::new();
    let mut buffer = [0; 1024];
    let mut bytes = 0;
    loop {
        match handshake.handle_bytes(buffer.get(..bytes).unwrap_or_default()) {
            Ok(Progress::Request(request)) => return Ok((request, handshake.take_rest())),
            Ok(Progress::Reply(reply)) => {
                tcp.write_all(&reply).await?;
                bytes = 0;
            }
            Ok(Progress::NeedMore) => {
                bytes = tcp.read(&mut buffer).await?;
                if bytes == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => {
                tcp.write_all(&error.reply()).await?;
                tcp.shutdown().await?;
                return Err(io::Error::other(error));
            }
        }
    }
}
