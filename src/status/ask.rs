//! The asking side: one question to a running process.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::Question;
use crate::error::{Failure, fail};
use crate::http::{self, Limits, Request};

/// How long an answer may take; a probe builds circuits.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The body of the answer of the process that uses this data folder.
pub fn ask(data_dir: &Path, question: Question) -> Result<Vec<u8>, Failure> {
    let socket = data_dir.join(super::SOCKET);
    let shown = socket.display().to_string();
    let runtime = crate::runtime::runtime()?;
    let reply = runtime.block_on(async {
        let connected = match super::socket_in(data_dir) {
            Ok((path, _open)) => UnixStream::connect(path).await,
            Err(error) => Err(error),
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                let advice = format!("is a client with this data folder running? ({error})");
                return fail("nobody answers", &shown, advice);
            }
        };
        let limits = Limits {
            exchange_timeout: TIMEOUT,
            ..Limits::default()
        };
        let request = Request::get(&question.to_string()).with_header("Host", "status");
        let reply = http::request(stream, request, &limits).await;
        reply.map_err(|error| Failure::new("no answer", &shown, error))
    });
    runtime.shutdown_background();
    match reply? {
        reply if reply.status == 200 => Ok(reply.body.to_vec()),
        reply => fail(
            format!("refused ({})", reply.status),
            shown,
            "is it of the same version as this program?",
        ),
    }
}
