//! Blocks of ports for whole networks on this machine: found free, and kept from other networks.
//!
//! A block is 200 ports from its first on. Whoever has it listens at its third port of 127.0.0.1
//! for as long as it runs: that keeps everybody out who takes blocks in this way, of whichever
//! user, within a network namespace (where two networks can't meet), and leaves nothing behind
//! after kill -9. Blocks outside the range that the kernel takes the ports of outgoing connections
//! from (`ip_local_port_range`) come first, as those may be anybody's at any moment.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

/// Ports of a block.
pub const BLOCK_PORTS: u16 = 200;
/// The first port of the block that is tried first.
pub const FIRST_BASE: u16 = 5000;
/// From the first port, the one that is listened at for as long as the block is held.
pub const HOLDER_PORT: u16 = 2;
/// The first port of the last block.
const LAST_BASE: u16 = 65_200;

/// Where the kernel says which ports outgoing connections have.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What it says unless it is told otherwise.
const USUAL_OUTGOING: RangeInclusive<u16> = 32_768..=60_999;

/// A block of ports that nobody else takes while this lives.
#[derive(Debug)]
pub struct Block {
    base: u16,
    holder: TcpListener,
}

impl Block {
    /// Takes the block that begins at `base`, if its holder's port is free, whatever becomes of
    /// the others.
    pub fn at(base: u16) -> io::Result<Self> {
        let holder = TcpListener::bind(local(base.saturating_add(HOLDER_PORT)))?;
        Ok(Self { base, holder })
    }

    /// Takes the first block of which all ports of 127.0.0.1 are free and that `fits`: `base`
    /// first if there is one, then the others in their order. `fits` may refuse a block because a
    /// port is taken, by [`ErrorKind::AddrInUse`]; other errors are the end.
    pub fn first_free<T>(
        base: Option<u16>,
        mut fits: impl FnMut(u16) -> io::Result<T>,
    ) -> io::Result<(Self, T)> {
        for base in base.into_iter().chain(bases(&outgoing())) {
            let taken = Self::at(base).and_then(|block| {
                block.check_free()?;
                Ok((block, fits(base)?))
            });
            match taken {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::Error::new(
            ErrorKind::AddrInUse,
            "no block of ports is free",
        ))
    }

    /// Its first port.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Its holder, for whoever has a use for a port that is open all the time.
    #[must_use]
    pub fn into_holder(self) -> TcpListener {
        self.holder
    }

    /// Finds out, without keeping them, whether all ports but the holder's are free.
    fn check_free(&self) -> io::Result<()> {
        let places = (0..BLOCK_PORTS).filter(|place| *place != HOLDER_PORT);
        places
            .map(|place| TcpListener::bind(local(self.base.saturating_add(place))))
            .try_for_each(|bound| bound.map(drop))
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The first ports of all blocks: first those that have no port of outgoing connections.
fn bases(outgoing: &RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let bases = (FIRST_BASE..=LAST_BASE).step_by(BLOCK_PORTS.into());
    let is_apart = |base: &u16| base + BLOCK_PORTS <= *outgoing.start() || base > outgoing.end();
    let (apart, others): (Vec<_>, Vec<_>) = bases.partition(is_apart);
    apart.into_iter().chain(others)
}

fn outgoing() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string(OUTGOING).unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse::<u16>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => USUAL_OUTGOING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_once() {
        let any = || Block::first_free(None, |_| Ok(())).unwrap().0;
        let (one, other) = (any(), any());
        assert_ne!(one.base(), other.base());
        assert!(Block::at(one.base()).is_err());
        // One that is asked for comes first, if it is free.
        let asked = |base| Block::first_free(Some(base), |_| Ok(())).unwrap().0.base();
        assert_ne!(asked(one.base()), one.base());
        let base = one.base();
        drop(one);
        assert!(Block::at(base).is_ok());
    }

    #[test]
    fn a_block_with_a_port_that_is_taken_is_left() {
        let (block, ()) = Block::first_free(None, |_| Ok(())).unwrap();
        let base = block.base();
        let foreign = TcpListener::bind(local(base + 77)).unwrap();
        drop(block);
        let (next, ()) = Block::first_free(Some(base), |_| Ok(())).unwrap();
        assert_ne!(next.base(), base, "{foreign:?}");
        // So says also whoever wants more than those of 127.0.0.1.
        let mut refused = Vec::new();
        let fits = |base| {
            refused.push(base);
            match refused.len() {
                1 => Err(ErrorKind::AddrInUse.into()),
                _ => Ok(base),
            }
        };
        let (block, fitting) = Block::first_free(None, fits).unwrap();
        assert_eq!(block.base(), fitting);
        assert_ne!(refused[0], fitting);
        let wrong = Block::first_free(None, |_| Err::<(), _>(ErrorKind::AddrNotAvailable.into()));
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn ports_of_outgoing_connections_come_last() {
        let usual: Vec<_> = bases(&USUAL_OUTGOING).collect();
        assert_eq!(usual[0], FIRST_BASE);
        assert_eq!(usual.len(), 302);
        let first = usual.iter().position(|base| *base == 32_600).unwrap();
        assert!(
            usual[..first]
                .iter()
                .all(|base| !(32_600..=60_999).contains(base))
        );
        assert_eq!(bases(&(1024..=65_535)).next(), Some(FIRST_BASE));
    }
}
