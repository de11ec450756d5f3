//! Name look-ups for the exit: addresses of a name, and the name of an address.
//!
//! Answers come from `/etc/hosts` first, then from the system's name servers (`/etc/resolv.conf`),
//! both of which are followed: what changes there holds a few seconds later. Without any server
//! only the hosts file answers. A name is looked up as it stands: the search domains of this
//! machine are no business of a client's, unless the operator says so. What servers say is checked
//! before it is believed.

mod cache;
mod counts;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cepa_wire::host;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Resolver as Hickory, TokioResolver};

use self::cache::Cache;
pub use self::cache::clip_ttl_secs;
pub use self::counts::DnsCounts;
use self::counts::{Asked, Counters};
use crate::clock;
use crate::error::{Failure, fail};

/// Addresses of one answer, at most: what fits a RESOLVED cell (tor-spec 6.4).
const ADDRESSES_MAX: usize = 16;
/// How long one server may take.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked.
const ATTEMPTS: usize = 2;
/// How long a look-up may take, whatever servers there are and whomever they refer to.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(20);
/// Questions under way at once; more wait.
const QUESTIONS_MAX: usize = 1024;
/// How often it is looked whether the system's files have changed, while there are questions.
const FILES_EVERY: Duration = Duration::from_secs(2);
/// The system's list of name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where name servers listen (RFC 1035).
const DNS_PORT: u16 = 53;
/// The system's own names.
const HOSTS: &str = "/etc/hosts";

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

/// How names are looked up: options of `tor`, `ServerDNS…`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DnsOptions {
    /// Whether the search domains of this machine count.
    pub searches: bool,
    /// Whether the letters of questions are now upper, now lower case, so that answers of who has
    /// not seen them are known (draft-vixie-dnsext-dns0x20).
    pub randomizes_case: bool,
    /// Whether it is an error that there is no name server.
    pub needs_servers: bool,
    /// Whether names may have letters that no host's name has.
    pub takes_odd_names: bool,
}

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    /// Those of the configuration; none: the system's.
    servers: Vec<SocketAddr>,
    resolv_conf: PathBuf,
    current: Mutex<Current>,
    counters: Counters,
}

/// What questions are asked of.
struct Current {
    hickory: TokioResolver,
    cache: Cache,
    options: DnsOptions,
    /// Whom that asks.
    servers: Vec<SocketAddr>,
    /// The files that it was made of.
    files: [Stamp; 2],
    looked: Instant,
}

/// By what it is seen that a file has changed.
type Stamp = Option<(SystemTime, u64, u64)>;

/// An answer with the seconds that it may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The address or name.
    pub value: T,
    /// For how many seconds the answer is good.
    pub ttl_secs: u32,
}

impl Resolver {
    /// A resolver that asks these servers, or those of a file (the system's, unless it is named)
    /// if there are none. Must be called within a runtime.
    pub fn new(servers: &[SocketAddr], resolv_conf: Option<&Path>) -> Self {
        let resolv_conf = resolv_conf.unwrap_or(Path::new(RESOLV_CONF));
        Self::with_files(servers, resolv_conf.to_owned())
    }

    fn with_files(servers: &[SocketAddr], resolv_conf: PathBuf) -> Self {
        let current = Current::new(servers, &resolv_conf, DnsOptions::default());
        let current = Mutex::new(current);
        let servers = servers.to_vec();
        let counters = Counters::default();
        Self {
            shared: Arc::new(Shared {
                servers,
                resolv_conf,
                current,
                counters,
            }),
        }
    }

    /// Looks names up by these from now on.
    ///
    /// # Errors
    /// There has to be a name server, and is none; then all stays as it was.
    pub fn set_options(&self, options: DnsOptions) -> Result<(), Failure> {
        let shared = &self.shared;
        let mut current = shared.lock();
        let place = shared.resolv_conf.display();
        if options.needs_servers && current.servers.is_empty() {
            let advice = "name one there, or take ServerDNSAllowBrokenConfig 0 back";
            return fail("there is no name server", place, advice);
        }
        if current.options != options {
            *current = Current::new(&shared.servers, &shared.resolv_conf, options);
        }
        Ok(())
    }

    /// Looks at the system's files again at the next question.
    pub fn reload(&self) {
        self.shared.lock().files = [None; 2];
        self.shared.follow(true);
    }

    /// How many questions were asked, and what became of them.
    pub fn counts(&self) -> DnsCounts {
        self.shared.counters.read()
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
        let (hickory, cache, options) = self.shared.follow(false);
        let name = full_name(name, options)?;
        if let Some(kept) = cache.addresses(&name) {
            return kept;
        }
        let asking = hickory.lookup_ip(name.clone());
        let found = self.asking(Asked::Addresses, asking).await;
        let answers = found.and_then(|found| sorted(found.as_lookup().answers()));
        cache.keep_addresses(name, &answers);
        answers
    }

    /// The name of `address`, without a final dot.
    pub async fn name(&self, address: IpAddr) -> Result<Answer<String>, DnsError> {
        let (hickory, cache, _) = self.shared.follow(false);
        if let Some(kept) = cache.name(address) {
            return kept;
        }
        let asking = hickory.lookup(Name::from(address), RecordType::PTR);
        let found = self.asking(Asked::Name, asking).await;
        let answer = found.and_then(|found| named(found.answers()));
        cache.keep_name(address, &answer);
        answer
    }

    /// Counts a question, and waits no longer for it than that is worth.
    async fn asking<T>(
        &self,
        asked: Asked,
        asking: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, DnsError> {
        let counters = &self.shared.counters;
        counters.ask(asked);
        let answered = tokio::time::timeout(LOOK_UP_TIMEOUT, asking).await;
        let answered = answered.unwrap_or(Err(NetError::Timeout));
        counters.answered(asked, answered.as_ref().err());
        answered.map_err(explain)
    }
}

impl Shared {
    /// What to ask: as the system's files are now, or were a moment ago.
    fn follow(&self, at_once: bool) -> (TokioResolver, Cache, DnsOptions) {
        let mut current = self.lock();
        let now = clock::now().mono;
        if at_once || now.saturating_duration_since(current.looked) >= FILES_EVERY {
            current.looked = now;
            if stamps(&self.resolv_conf) != current.files {
                *current = Current::new(&self.servers, &self.resolv_conf, current.options);
                let servers = current.servers.len();
                tracing::info!(
                    servers,
                    "the system's settings for name look-ups are read again"
                );
            }
        }
        (
            current.hickory.clone(),
            current.cache.clone(),
            current.options,
        )
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an address that was written as a number is good.
const LITERAL_TTL_SECS: u32 = 3600;

fn stamps(resolv_conf: &Path) -> [Stamp; 2] {
    use std::os::unix::fs::MetadataExt as _;
    [resolv_conf, HOSTS.as_ref()].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    })
}

impl Current {
    /// Asks the servers of the configuration, or those of the file.
    fn new(configured: &[SocketAddr], resolv_conf: &Path, options: DnsOptions) -> Self {
        let files = stamps(resolv_conf);
        let file = of_file(resolv_conf);
        let (named, domain, search) = match (file, options.searches) {
            (Ok((named, domain, search)), true) => (Ok(named), domain, search),
            (file, _) => (file.map(|(named, ..)| named), None, Vec::new()),
        };
        let servers = match configured.is_empty() {
            false => configured.to_vec(),
            true => named.unwrap_or_else(|error| {
                let file = resolv_conf.display();
                tracing::warn!(
                    "{file} names no server ({error}): until it does only {HOSTS} is used"
                );
                Vec::new()
            }),
        };
        let server = |addr: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(addr.ip());
            for connection in &mut server.connections {
                connection.port = addr.port();
            }
            server
        };
        let named = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(domain, search, named);
        let provider = TokioRuntimeProvider::default();
        Current {
            hickory: build(Hickory::builder_with_config(config, provider), options),
            cache: Cache::new(),
            options,
            servers,
            files,
            looked: clock::now().mono,
        }
    }
}

/// The name servers of a file, the domain of this machine, and others that are searched.
type Settings = (Vec<SocketAddr>, Option<Name>, Vec<Name>);

fn of_file(resolv_conf: &Path) -> Result<Settings, String> {
    let text = std::fs::read(resolv_conf).map_err(|error| error.to_string())?;
    let (config, _) = parse_resolv_conf(text).map_err(|error| error.to_string())?;
    let servers = config.name_servers().iter();
    let servers = servers.map(|one| SocketAddr::new(one.ip, DNS_PORT));
    let domain = config.domain().cloned();
    Ok((servers.collect(), domain, config.search().to_vec()))
}

fn build(
    mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
    wanted: DnsOptions,
) -> TokioResolver {
    let options = builder.options_mut();
    options.case_randomization = wanted.randomizes_case;
    options.timeout = SERVER_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.max_active_requests = QUESTIONS_MAX;
    // Its cache keeps answers for exactly as long as their servers say: ours does not.
    options.cache_size = 0;
    match builder.build() {
        Ok(resolver) => resolver,
        // Only TLS settings can fail, and there are none.
        Err(error) => unreachable!("a resolver without TLS: {error}"),
    }
}

/// The addresses of an answer, IPv4 ones first.
fn sorted(records: &[Record]) -> Result<Vec<Answer<IpAddr>>, DnsError> {
    let answers = records.iter().filter_map(|record| {
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
    match answers.is_empty() {
        true => Err(DnsError::NoSuchName),
        false => Ok(answers),
    }
}

/// The first name of an answer that a host can have.
fn named(records: &[Record]) -> Result<Answer<String>, DnsError> {
    let answer = records.iter().find_map(|record| {
        let RData::PTR(name) = &record.data else {
            return None;
        };
        Some(Answer {
            value: told_name(&name.0)?,
            ttl_secs: record.ttl,
        })
    });
    answer.ok_or(DnsError::NoSuchName)
}

/// The name as it stands, without any search domain unless these count.
fn full_name(text: &str, options: DnsOptions) -> Result<Name, DnsError> {
    if !host::is_name(text) && !options.takes_odd_names {
        return Err(DnsError::Malformed);
    }
    // Whatever its letters are: a server may know what no host has.
    let labels = text.strip_suffix('.').unwrap_or(text);
    let labels = labels.split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).map_err(|_| DnsError::Malformed)?;
    name.set_fqdn(!options.searches || text.ends_with('.'));
    Ok(name)
}

/// A name that a server told, unless it has what no name of a host has: it goes on to applications
/// that may believe it.
fn told_name(name: &Name) -> Option<String> {
    let name = name.to_ascii();
    let name = name.trim_end_matches('.');
    host::is_name(name).then(|| name.to_owned())
}

fn explain(error: NetError) -> DnsError {
    if error.is_no_records_found() || error.is_nx_domain() {
        DnsError::NoSuchName
    } else {
        DnsError::Temporary
    }
}

#[cfg(test)]
mod tests;
