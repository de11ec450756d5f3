//! What the control core of a relay asks of the outside.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::SystemTime;

use cepa_circuit::OnionKeys;
use cepa_crypto::Rng;
use cepa_crypto::rsa::{self, RsaKeyError};
use cepa_dir::fetch::{FetchId, Origin};
use cepa_dir::{DirDocument, DirRequest};
use cepa_link::{LinkIdentity, LinkTimes, TlsKeyAndCert};
use cepa_wire::Now;

use crate::accounting::Wakefulness;
use crate::bridge_clients::BridgeClientsSeen;
use crate::hsdir::HsDuty;
use crate::key_files::KeyFile;
use crate::switch::{KnownRelays, SwitchConfig};

/// The work of making a TLS key and its certificate: a good fraction of a second.
#[derive(Clone)]
pub struct TlsKeyJob {
    pub(super) identity: Arc<rsa::Keypair>,
    pub(super) times: LinkTimes,
}

impl TlsKeyJob {
    /// Does it; the answer goes to [`crate::Relay::handle_tls_key`].
    pub fn run(&self, now: Now, rng: &mut Rng) -> Result<TlsKeyAndCert, RsaKeyError> {
        TlsKeyAndCert::make_for(&self.identity, self.times, now, rng)
    }
}

impl std::fmt::Debug for TlsKeyJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsKeyJob")
    }
}

/// What the outside must do. Where an answer is expected, its `handle_…` is named.
#[derive(Debug)]
pub enum Command {
    /// Send a request, then [`crate::Relay::handle_fetch`].
    Fetch {
        /// Names it in the answer.
        id: FetchId,
        /// The documents that are asked for.
        request: DirRequest,
        /// Whom to ask.
        from: Origin,
    },
    /// POST `body` to `/tor/` of an authority's DirPort, then [`crate::Relay::handle_upload`].
    Upload {
        /// The authority's place in the network file.
        authority: usize,
        /// Its DirPort.
        to: SocketAddrV4,
        /// The descriptor with its extra-info.
        body: Arc<str>,
    },
    /// Insert a document into the store that requests are answered from, and keep it.
    Serve(DirDocument),
    /// Write (or remove) these files of the data folder, secret, all or none.
    SaveKeys {
        /// The files.
        files: Vec<KeyFile>,
        /// To be kept with them, for [`crate::RelayKeys::parse`].
        ntor_since: SystemTime,
    },
    /// Read the files of the signing key, then [`crate::Relay::handle_signing_key`].
    ReadSigningKey,
    /// Answer onionskins with these keys from now on.
    OnionKeys(Arc<OnionKeys>),
    /// Run the job away from this thread, then [`crate::Relay::handle_tls_key`].
    MakeTlsKey(TlsKeyJob),
    /// Accept and open new links with this TLS key and these certificates.
    Link {
        /// The TLS key and certificate.
        tls: Arc<TlsKeyAndCert>,
        /// What links prove in their handshake, and with which keys.
        identity: Arc<LinkIdentity>,
    },
    /// Give every switch this configuration.
    Switch(Arc<SwitchConfig>),
    /// Tell controllers of the clients of this bridge: each hour.
    ClientsSeen(BridgeClientsSeen),
    /// Hold descriptors of onion services by this from now on.
    HsDuty(Box<HsDuty>),
    /// Tell every switch of the relays of a new consensus.
    Relays(Arc<KnownRelays>),
    /// Work from now on, take nothing new, or close all links and take nothing.
    Sleep(Wakefulness),
    /// Keep this for [`crate::Restored::accounting`].
    KeepAccounting(String),
}
