//! The DNS port (RFC 1035 over UDP; `DNSPort` in tor(1)): names are looked up at an exit.
//!
//! A question for A, AAAA or PTR of class IN is answered; others are refused as not implemented.
//! Garbage is dropped, and so is what is no question: who answers an answer may talk to himself for
//! ever. Questions under way are bounded; those beyond are dropped, as a resolver asks again.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use cepa_client::Protocol;
use cepa_wire::host::{self, Host};
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

/// Questions under way at once; another is told that there is no answer now.
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
        let is_answer = question.metadata.message_type == MessageType::Response;
        if is_answer || peer.port() == 0 || socket.local_addr().is_ok_and(|own| own == peer) {
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // Whoever asks tries another server, or again.
            let mut full = head_of(&question);
            full.metadata.response_code = ResponseCode::ServFail;
            if let Ok(bytes) = full.to_vec() {
                let _ = socket.try_send_to(&bytes, peer);
            }
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

/// An answer to a question, without any.
fn head_of(question: &Message) -> Message {
    let (id, op_code) = (question.metadata.id, question.metadata.op_code);
    let mut answer = Message::response(id, op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&question.queries);
    answer
}

async fn answer(
    applications: &Applications,
    question: &Message,
    port: Listener,
    peer: SocketAddr,
) -> Message {
    let mut answer = head_of(question);
    if !applications.may_use(peer) {
        answer.metadata.response_code = ResponseCode::Refused;
        return answer;
    }
    let (command, address) = match wanted(question) {
        Ok(wanted) => wanted,
        Err(code) => {
            answer.metadata.response_code = code;
            return answer;
        }
    };
    let [query] = &question.queries[..] else {
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
        Answer::Resolved(found) if found.iter().any(is_transient) => {
            answer.metadata.response_code = ResponseCode::ServFail;
        }
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

fn is_transient(answer: &Resolved) -> bool {
    answer.value == AnswerValue::ErrorTransient
}

/// What a question asks an exit for, or the code that refuses it, as `tor`'s port does.
fn wanted(question: &Message) -> Result<(SocksCommand, Host), ResponseCode> {
    if question.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    let [query] = &question.queries[..] else {
        return Err(ResponseCode::FormErr);
    };
    if !(question.answers.is_empty() && question.authorities.is_empty()) {
        return Err(ResponseCode::FormErr);
    }
    if query.query_class != DNSClass::IN {
        return Err(ResponseCode::NotImp);
    }
    match query.query_type {
        RecordType::A | RecordType::AAAA => {
            let name = name_of(&query.name).ok_or(ResponseCode::ServFail)?;
            Ok((SocksCommand::Resolve, Host::Name(name)))
        }
        RecordType::PTR => {
            let net = query.name.parse_arpa_name();
            let net = net.map_err(|_| ResponseCode::NotImp)?;
            let is_host = net.prefix_len() == net.max_prefix_len();
            let host = (SocksCommand::ResolvePtr, Host::Ip(net.addr()));
            is_host.then_some(host).ok_or(ResponseCode::NotImp)
        }
        _ => Err(ResponseCode::NotImp),
    }
}

/// A name as hosts have it. Labels on the wire may have any bytes, which nobody looks up.
fn name_of(name: &Name) -> Option<String> {
    let labels = name.iter().map(|label| str::from_utf8(label).ok());
    let labels = labels.collect::<Option<Vec<_>>>()?;
    let has_dots = labels.iter().any(|label| label.contains('.'));
    let text = labels.join(".");
    (!has_dots && host::is_name(&text)).then_some(text)
}

/// The record for an answer of the kind that was asked for.
fn record(query: &Query, found: &Resolved) -> Option<Record> {
    let data = match (query.query_type, &found.value) {
        (RecordType::A, AnswerValue::Ip(IpAddr::V4(ip))) => RData::A(A(*ip)),
        (RecordType::AAAA, AnswerValue::Ip(IpAddr::V6(ip))) => RData::AAAA(AAAA(*ip)),
        (RecordType::PTR, AnswerValue::Name(name)) => {
            let name = Name::from_ascii(str::from_utf8(name).ok()?).ok()?;
            RData::PTR(PTR(name))
        }
        _ => return None,
    };
    Some(Record::from_rdata(query.name.clone(), found.ttl, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(labels: &[&[u8]]) -> Message {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_labels(labels.iter().copied()).unwrap();
        question.add_query(Query::query(name, RecordType::A));
        question
    }

    #[test]
    fn what_is_no_question_for_a_host_is_refused() {
        let good = asking(&[b"www", b"example_x", b"net"]);
        let name = Host::Name("www.example_x.net".into());
        assert_eq!(wanted(&good), Ok((SocksCommand::Resolve, name)));
        let control = [1_u8; 63];
        for labels in [
            &[&control[..], &control, &control][..],
            &[b"my printer", b"net"],
            &[b"a.b", b"net"],
            &[b"a\\b"],
            &["m\u{fc}ller".as_bytes()],
            &[],
        ] {
            assert_eq!(wanted(&asking(labels)), Err(ResponseCode::ServFail));
        }
        let mut twice = good.clone();
        twice.add_query(twice.queries[0].clone());
        assert_eq!(wanted(&twice), Err(ResponseCode::FormErr));
        let mut answered = good.clone();
        let data = RData::A(A([127, 0, 0, 1].into()));
        let record = Record::from_rdata(answered.queries[0].name.clone(), 1, data);
        answered.add_answers([record]);
        assert_eq!(wanted(&answered), Err(ResponseCode::FormErr));
        let mut status = good;
        status.metadata.op_code = OpCode::Status;
        assert_eq!(wanted(&status), Err(ResponseCode::NotImp));
    }
}
