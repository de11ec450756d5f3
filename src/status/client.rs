//! A client in words, a line each, and as metrics; both are made of its snapshot.

use std::fmt::Write as _;
use std::time::SystemTime;

use cepa_client::VanguardMode;
use cepa_client::guards::{GuardRank, Reachable, Selection};
use cepa_client::status::{
    BuildTimesStatus, CircuitState, CircuitStatus, CircuitUse, ClientStatus, GuardsStatus,
};
use cepa_netdoc::timestamp;

use super::metrics::head;

/// How long circuits may take, then each circuit: what for, how far, by which relays, since when.
pub(crate) fn circuits(status: &ClientStatus) -> String {
    let mut text = times(&status.build_times);
    if status.is_dormant {
        text.push_str("dormant: nobody has wanted anything for a day\n");
    }
    for circuit in &status.circuits {
        circuit_line(&mut text, circuit, status.at);
    }
    text
}

fn times(times: &BuildTimesStatus) -> String {
    let learnt = match times.is_learning {
        true => "not learnt yet",
        false => "learnt",
    };
    let (late, close) = (times.timeout.as_millis(), times.close.as_secs());
    let count = times.count;
    format!(
        "a circuit is late after {late} ms, given up after {close} s \
         ({learnt}, from {count} circuits)\n"
    )
}

fn circuit_line(text: &mut String, circuit: &CircuitStatus, at: SystemTime) {
    let state = match circuit.state {
        CircuitState::Connecting => "connecting",
        CircuitState::Building => "being built",
        CircuitState::GuardWait => "waiting for a better guard",
        CircuitState::Built => "ready",
    };
    let usage = match circuit.usage {
        CircuitUse::Clean => "clean",
        CircuitUse::Used => "in use",
        CircuitUse::Worn => "takes no more streams",
        CircuitUse::Late => "late",
    };
    let (id, purpose, streams) = (circuit.id.0, circuit.purpose, circuit.streams);
    let path = circuit
        .path
        .iter()
        .map(|hop| match (&hop.nickname, &hop.rsa) {
            (Some(nickname), _) => nickname.clone(),
            (None, Some(rsa)) => rsa.to_string(),
            (None, None) => "a relay that is not listed".to_owned(),
        });
    let path: Vec<String> = path.collect();
    let by = match path.is_empty() {
        true => circuit.guard.to_string(),
        false => path.join(", "),
    };
    let age = at.duration_since(circuit.created).unwrap_or_default();
    let age = age.as_secs();
    let _ = writeln!(
        text,
        "  {id} {purpose}: {state}, {usage}; by {by}; {streams} streams; {age} s old"
    );
}

/// The guards that matter, the last ones that were given up, and the vanguards.
pub(crate) fn guards(status: &GuardsStatus) -> String {
    let used = status.selection;
    let set = match used {
        Selection::Default => "guards of the network",
        Selection::Restricted(_) => "guards of the network that the rules allow, which are few",
        Selection::Bridges => "bridges",
    };
    let of_set = || status.sampled.iter().filter(|one| one.selection == used);
    let mut text = format!(
        "{set}, {} in the sample (dates are blurred by up to 12 days):\n",
        of_set().count()
    );
    let mut in_reserve = 0;
    for one in of_set() {
        let is_news = one.reachable == Reachable::No || one.unlisted_since.is_some();
        match one.rank {
            GuardRank::Sampled if !is_news => in_reserve += 1,
            _ => {
                let _ = writeln!(text, "  {one}");
            }
        }
    }
    let _ = writeln!(text, "  {in_reserve} more in reserve");
    for one in &status.path_bias {
        let _ = writeln!(
            text,
            "  by {}: of {:.0} circuits {:.0} were built, of {:.0} used {:.0} answered",
            one.guard, one.attempts, one.successes, one.use_attempts, one.use_successes
        );
    }
    let mut departures = status.departures.iter().filter(|one| one.was_confirmed);
    if let Some(first) = departures.next() {
        let _ = writeln!(text, "given up lately:\n  {first}");
        departures.for_each(|one| {
            let _ = writeln!(text, "  {one}");
        });
    }
    vanguards(&mut text, status);
    text
}

/// Which hop each vanguard is, until when, and whether it rests or only stands in.
fn vanguards(text: &mut String, status: &GuardsStatus) {
    text.push_str(match status.vanguard_mode {
        VanguardMode::Off => "no vanguards\n",
        VanguardMode::Lite => "vanguards of circuits for onion services (lite):\n",
        VanguardMode::Full => "vanguards of circuits for onion services (full):\n",
    });
    for named in &status.vanguards {
        let one = &named.vanguard;
        let nickname = named.nickname.as_deref().unwrap_or("not listed");
        let hop = if one.hop == 1 { "second" } else { "third" };
        let until = timestamp::encode(one.until);
        let minute = until.rsplit_once(':').map_or(&*until, |(minute, _)| minute);
        let _ = writeln!(
            text,
            "  {nickname} ({}): {hop} hop until {minute}{}{}",
            one.id,
            if one.is_spare { "; stands in" } else { "" },
            if one.is_resting {
                "; rests after it failed"
            } else {
                ""
            },
        );
    }
}

/// The metrics of a client.
pub(crate) fn metrics(status: &ClientStatus) -> String {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let built = status
        .circuits
        .iter()
        .filter(|one| one.state == CircuitState::Built);
    let metrics = [
        (
            "cepa_client_bootstrap_percent",
            "gauge",
            "How far the client is",
            status.bootstrap.percent.into(),
        ),
        (
            "cepa_client_circuits",
            "gauge",
            "Circuits",
            number(status.circuits.len()),
        ),
        (
            "cepa_client_circuits_built",
            "gauge",
            "Circuits that stand",
            number(built.count()),
        ),
        (
            "cepa_client_streams",
            "gauge",
            "Streams of applications",
            number(status.streams.len()),
        ),
        (
            "cepa_client_links",
            "gauge",
            "Links to relays",
            number(status.links.len()),
        ),
        (
            "cepa_client_read_bytes_total",
            "counter",
            "Bytes of cells that came",
            status.traffic.read_bytes,
        ),
        (
            "cepa_client_written_bytes_total",
            "counter",
            "Bytes of cells that went",
            status.traffic.written_bytes,
        ),
    ];
    let mut out = String::new();
    for (name, kind, help, value) in metrics {
        head(&mut out, name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cepa_client::status::{StreamSource, StreamState, StreamStatus};
    use cepa_client::{Isolation, IsolationRules, Protocol, RequestId};
    use cepa_wire::host::Host;
    use cepa_wire::socks::{SocksAuth, SocksCommand, SocksRequest, SocksVersion};

    #[test]
    fn passwords_are_told_to_nobody() {
        let auth = SocksAuth::Username(b"name".to_vec(), b"secret".to_vec());
        let request = SocksRequest {
            version: SocksVersion::V5,
            command: SocksCommand::Connect,
            address: Host::parse(b"example.net").unwrap(),
            port: 80,
            auth: auth.clone(),
        };
        let source = StreamSource {
            addr: "127.0.0.1:40000".parse().unwrap(),
            protocol: Protocol::Socks(SocksVersion::V5),
        };
        let listener = "127.0.0.1:9050".parse().unwrap();
        let stream = StreamStatus {
            id: RequestId(1),
            state: StreamState::Open,
            circuit: None,
            command: request.command,
            host: request.address.clone(),
            port: request.port,
            source,
            auth,
            isolation: Isolation::new(&IsolationRules::default(), listener, source, &request),
            created: SystemTime::UNIX_EPOCH,
        };
        let text = serde_json::to_string(&stream).unwrap();
        assert!(
            text.contains("example.net") && text.contains("name"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
}
