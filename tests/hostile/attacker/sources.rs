//! Where attackers come from. Each attack has addresses of its own and shares no prefix with
//! another: what one did is remembered of its address, and of its prefix, long after it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Attackers are in 127.128.0.0 to 127.254.255.255; nodes and honest people are below.
const FIRST_NET: usize = 128;
const NETS: usize = 127;
/// What the doors count together is an IPv4 /24: so many are one attack's.
const PREFIXES: usize = 16;
/// Addresses of a prefix.
const HOSTS: usize = 250;
const BLOCKS: usize = NETS * 256 / PREFIXES;

/// The addresses of one attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources {
    block: usize,
}

impl Sources {
    /// Addresses that no attack of this process has had; after 2,032 of them, those of the first.
    pub(crate) fn claim() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let block = NEXT.fetch_add(1, Ordering::Relaxed) % BLOCKS;
        Self { block }
    }

    /// The address of an attacker who has one.
    pub(crate) fn one(self) -> Ipv4Addr {
        self.host(0)
    }

    /// One of 4,000 addresses of an attacker who has many, 250 of a prefix.
    pub(crate) fn host(self, number: usize) -> Ipv4Addr {
        self.at(number / HOSTS, number)
    }

    /// One of 16 addresses that share no prefix.
    pub(crate) fn prefix(self, number: usize) -> Ipv4Addr {
        self.at(number, 0)
    }

    fn at(self, prefix: usize, host: usize) -> Ipv4Addr {
        let prefix = self.block * PREFIXES + prefix % PREFIXES;
        let part = |value: usize| u8::try_from(value).unwrap();
        let net = part(FIRST_NET + prefix / 256);
        Ipv4Addr::new(127, net, part(prefix % 256), part(host % HOSTS + 1))
    }
}
