//! The port for metrics, which a policy opens to one: strangers read nothing there, and do not keep
//! that one from it.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::attacker::{Sources, http, tcp};
use crate::support::now;
use crate::trial::{FLOOD, Flood, Trial};
use crate::world::{GUARD, HONEST, World};

/// Questions that are asked and whose answers are looked at.
const QUESTIONS: usize = 100;

/// Questions, and connections that ask nothing, of many.
pub(crate) fn strangers(world: &World) {
    let port = world.target(GUARD).or.port();
    let (or, metrics) = (
        [127, 97, 0, 1],
        SocketAddr::from(([127, 97, 0, 1], port + 1)),
    );
    let more = format!("metrics = \"{metrics}\"\nmetrics_policy = [\"accept {HONEST}\"]");
    let solo = world.solo("measured", SocketAddr::from((or, port)), 1000, &more);
    let honest = || {
        let started = now();
        match http::fetch(HONEST, metrics, "/metrics") {
            Ok(answer) if answer.status == 200 => Ok(now().duration_since(started)),
            other => Err(format!("{other:?}")),
        }
    };
    let name = "strangers on the port for metrics";
    let mut trial = Trial::begin(name, solo.pid(), Box::new(honest));
    let from = Sources::claim();
    for number in 0..QUESTIONS {
        let answer = http::fetch(from.host(number), metrics, "/metrics");
        assert!(answer.is_err(), "{answer:?}");
    }
    let flood = Flood::start(3, move |thread, goes_on| {
        let (mut asked, mut held) = (0, Vec::new());
        while goes_on() {
            let from = from.host(thread * 1000 + asked);
            let Ok(mut stream) = tcp::dial(from, metrics) else {
                continue;
            };
            asked += 1;
            // Every other one asks nothing, and stays.
            if asked % 2 == 0 {
                // It may be hung up on by then.
                let _ = stream.write_all(http::head("GET", "/metrics", 0).as_bytes());
            } else if held.len() < 300 {
                held.push(stream);
            }
        }
        asked
    });
    let asked = trial.during_flood(flood, FLOOD);
    trial.end(QUESTIONS + asked, "connections", 32, 16);
}
