//! The DNS port (RFC 1035 over UDP; `DNSPort` in tor(1)): names are looked up at an exit.
//!
//! A question for A, AAAA or PTR of class IN is answered; others are refused as not implemented,
//! and garbage is dropped. Questions under way are bounded; those beyond are dropped, as a resolver
//! asks again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use cepa_client::Protocol;
use cepa_wire::host::Host;
use cepa_wire::resolve::{Answer as Resolved, AnswerValue};
use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksStatus, SocksVersion};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, PTR};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::applications::{Answer, Applications, Asked};
use crate::config::Listener;
use crate::error::Failure;

/// Questions under way at once.
const QUESTIONS_MAX: usize = 512;
/// The longest question over UDP (RFC 1035 4.2.1; more with EDNS, which is not needed to ask).
const QUESTION_LEN_MAX: usize = 4096;

/// Opens the port.
pub(crate) async fn listen(addr: SocketAddr) -> Result<UdpSocket, Failure> {
    UdpSocket::bind(addr).await.map_err(|error| {
        let place = format!("dns {addr}");
        Failure::new("cannot listen", place, format!("choose another ({error})"))
    })
}

/// Answers questions until the end of the process.
pub(crate) async fn serve(applications: Rc<Applications>, socket: UdpSocket, port: Listener) {
    let (socket, places) = (Rc::new(socket), Arc::new(Semaphore::new(QUESTIONS_MAX)));
    let mut buffer = [0; QUESTION_LEN_MAX];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else {
            // An error of one datagram (ICMP unreachable of an earlier answer).
            continue;
        };
        let question = Message::from_vec(buffer.get(..len).unwrap_or_default());
        let Ok(question) = question else {
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (applications, socket) = (Rc::clone(&applications), Rc::clone(&socket));
        tokio::task::spawn_local(async move {
            let answer = answer(&applications, &question, port, peer).await;
            if let Ok(bytes) = answer.to_vec() {
                // Who does not listen any more asks again.
                let _ = socket.send_to(&bytes, peer).await;
            }
            drop(place);
        });
    }
}

async fn answer(
    applications: &Applications,
    question: &Message,
    port: Listener,
    peer: SocketAddr,
) -> Message {
    let (id, op_code) = (question.metadata.id, question.metadata.op_code);
    let mut answer = Message::response(id, op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    let is_question =
        question.metadata.message_type == MessageType::Query && op_code == OpCode::Query;
    let [query] = &question.queries[..] else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return answer;
    };
    let Some((command, address)) = wanted(query).filter(|_| is_question) else {
        answer.metadata.response_code = ResponseCode::NotImp;
        return answer;
    };
    let version = SocksVersion::V5;
    let auth = SocksAuth::None;
    let request = SocksRequest {
        version,
        command,
        address,
        port: 0,
        auth,
    };
    let mut waiting = applications.ask(Asked::new(port, peer, Protocol::Dns, request));
    match waiting.answer().await {
        Answer::Resolved(found) => {
            let records = found.iter().filter_map(|one| record(query, one));
            answer.add_answers(records.collect::<Vec<_>>());
        }
        Answer::Failed(SocksStatus::HOST_UNREACHABLE) => {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        _ => answer.metadata.response_code = ResponseCode::ServFail,
    }
    answer
}

/// What a question asks an exit for.
fn wanted(query: &Query) -> Option<(SocksCommand, Host)> {
    if query.query_class != DNSClass::IN {
        return None;
    }
    match query.query_type {
        RecordType::A | RecordType::AAAA => {
            let name = query.name.to_ascii();
            let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
            Some((SocksCommand::Resolve, Host::Name(name)))
        }
        RecordType::PTR => {
            let net = query.name.parse_arpa_name().ok()?;
            let is_host = net.prefix_len() == net.max_prefix_len();
            is_host.then(|| (SocksCommand::ResolvePtr, Host::Ip(net.addr())))
        }
        _ => None,
    }
}

/// The record for an answer of the kind that was asked for.
fn record(query: &Query, found: &Resolved) -> Option<Record> {
    let data = match (query.query_type, &found.value) {
        (RecordType::A, AnswerValue::Ip(IpAddr::V4(ip))) => RData::A(A(*ip)),
        (RecordType::AAAA, AnswerValue::Ip(IpAddr::V6(ip))) => RData::AAAA(AAAA(*ip)),
        (RecordType::PTR, AnswerValue::Name(name)) => {
            let name = Name::from_ascii(std::str::from_utf8(name).ok()?).ok()?;
            RData::PTR(PTR(name))
        }
        _ => return None,
    };
    Some(Record::from_rdata(query.name.clone(), found.ttl, data))
}
