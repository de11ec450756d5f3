//! Name look-ups for the exit: addresses of a name, and the name of an address.
//!
//! Answers come from `/etc/hosts` first, then from the system's name servers (`/etc/resolv.conf`).
//! Without any server only the hosts file answers. A name is looked up as it stands: the search
//! domains of this machine are no business of a client's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver as Hickory, TokioResolver};

/// Addresses of one answer, at most: what fits a RESOLVED cell (tor-spec 6.4).
const ADDRESSES_MAX: usize = 16;
/// How long one server may take.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked.
const ATTEMPTS: usize = 2;
/// Questions under way at once; more wait.
const QUESTIONS_MAX: usize = 1024;

/// Why a look-up brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist, or has no address: asking again is useless.
    #[error("no such name")]
    NoSuchName,
    /// The text is no name.
    #[error("not a name")]
    Malformed,
    /// No server answered: it may work later.
    #[error("no answer from the name servers")]
    Temporary,
}

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    hickory: TokioResolver,
}

/// An answer with the seconds that it may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The address or name.
    pub value: T,
    /// How long it is good.
    pub ttl_secs: u32,
}

impl Resolver {
    /// A resolver that asks these servers, or the system's if there are none. Must be called
    /// within a runtime.
    pub fn new(servers: &[SocketAddr]) -> Self {
        if servers.is_empty() {
            return Self::system();
        }
        let server = |addr: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            for connection in &mut server.connections {
                connection.port = addr.port();
            }
            server
        };
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        Self {
            hickory: build(Hickory::builder_with_config(config, provider)),
        }
    }

    fn system() -> Self {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no settings for name look-ups: only /etc/hosts is used");
            let provider = TokioRuntimeProvider::default();
            Hickory::builder_with_config(ResolverConfig::default(), provider)
        });
        Self {
            hickory: build(builder),
        }
    }

    /// The addresses of `name`, at most `ADDRESSES_MAX`; IPv4 ones first.
    ///
    /// An address in text form stands for itself.
    pub async fn addresses(&self, name: &str) -> Result<Vec<Answer<IpAddr>>, DnsError> {
        if let Ok(value) = name.parse::<IpAddr>() {
            return Ok(vec![Answer {
                value,
                ttl_secs: LITERAL_TTL_SECS,
            }]);
        }
        let found = self
            .hickory
            .lookup_ip(full_name(name)?)
            .await
            .map_err(explain)?;
        let answers = found.as_lookup().answers().iter().filter_map(|record| {
            let value = match &record.data {
                RData::A(address) => IpAddr::V4(address.0),
                RData::AAAA(address) => IpAddr::V6(address.0),
                _ => return None,
            };
            Some(Answer {
                value,
                ttl_secs: record.ttl,
            })
        });
        let mut answers: Vec<_> = answers.collect();
        // Stable: servers turn their lists around to share load.
        answers.sort_by_key(|answer| answer.value.is_ipv6());
        answers.truncate(ADDRESSES_MAX);
        if answers.is_empty() {
            Err(DnsError::NoSuchName)
        } else {
            Ok(answers)
        }
    }

    /// The name of `address`, without a final dot.
    pub async fn name(&self, address: IpAddr) -> Result<Answer<String>, DnsError> {
        let question = Name::from(address);
        let found = self
            .hickory
            .lookup(question, RecordType::PTR)
            .await
            .map_err(explain)?;
        let answer = found
            .answers()
            .iter()
            .find_map(|record| match &record.data {
                RData::PTR(name) => Some(Answer {
                    value: name.0.to_ascii().trim_end_matches('.').to_owned(),
                    ttl_secs: record.ttl,
                }),
                _ => None,
            });
        answer.ok_or(DnsError::NoSuchName)
    }
}

/// How long an address that was written as a number is good.
const LITERAL_TTL_SECS: u32 = 3600;

fn build(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> TokioResolver {
    let options = builder.options_mut();
    options.timeout = SERVER_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.max_active_requests = QUESTIONS_MAX;
    match builder.build() {
        Ok(resolver) => resolver,
        // Only TLS settings can fail, and there are none.
        Err(error) => unreachable!("a resolver without TLS: {error}"),
    }
}

/// The name as it stands, without any search domain.
fn full_name(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text).map_err(|_| DnsError::Malformed)?;
    name.set_fqdn(true);
    Ok(name)
}

fn explain(error: NetError) -> DnsError {
    if error.is_no_records_found() || error.is_nx_domain() {
        DnsError::NoSuchName
    } else {
        DnsError::Temporary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let answers = Resolver::system().addresses("localhost").await.unwrap();
        assert!(
            answers.iter().all(|answer| answer.value.is_loopback()),
            "{answers:?}"
        );
    }

    #[tokio::test]
    async fn addresses_stand_for_themselves() {
        let answers = Resolver::system().addresses("::1").await.unwrap();
        assert_eq!(answers[0].value, "::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn malformed_names_are_refused() {
        assert_eq!(full_name(&"a".repeat(300)), Err(DnsError::Malformed));
        assert_eq!(full_name("a..b"), Err(DnsError::Malformed));
    }
}
