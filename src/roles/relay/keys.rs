//! The keys of a running relay: read, saved, handed to the workers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cepa_crypto::Rng;
use cepa_link::{LinkIdentity, TlsKeyAndCert};
use cepa_relay::{KeyFile, RelayKeys, key_files};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::Node;
use super::core::tls_failure;
use crate::clock;
use crate::config::RelayConfig;
use crate::doors::BEGIN_DIR;
use crate::error::{Failure, fail};
use crate::folder::Folder;
use crate::http;
use crate::keep::{KeptFile, kept};
use crate::keyfiles;
use crate::launched::Stage;
use crate::roles::workers::{NodeKeys, Setup, Workers};
use crate::store::{Change, Store};
use crate::tls;

/// What others may read: `tor` and those who copy files leave them so.
const PUBLIC_FILES: [&str; 3] = [
    key_files::MASTER_PUBLIC,
    key_files::SIGNING_CERT,
    key_files::FINGERPRINT,
];

impl Node {
    /// The folder of the keys.
    pub(crate) fn keys_folder(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Keeps the keys. A relay that has not begun to work does not begin before its identity is
    /// kept; one that works goes on, loudly.
    pub(super) fn save_keys(
        &mut self,
        files: Vec<KeyFile>,
        since: SystemTime,
    ) -> Result<(), Failure> {
        let folder = self.folder.path();
        let files = files.into_iter().map(|file| KeptFile {
            path: folder.join(file.path),
            bytes: file.bytes,
        });
        let secs = cepa_wire::time::unix_seconds(since);
        let change = Change::Put {
            kind: kept::NTOR_SINCE,
            key: String::new(),
            bytes: secs.to_string().into_bytes(),
        };
        tokio::task::block_in_place(|| self.keep.files(files, vec![change]));
        let identity = [key_files::SECRET_ID_KEY, key_files::MASTER_SECRET];
        let lost = identity.map(|name| folder.join(name));
        let lost = lost.iter().find(|path| self.keep.is_waiting(path));
        match lost.filter(|_| self.workers.is_none()) {
            None => Ok(()),
            Some(path) => fail(
                "a new identity cannot be kept",
                path.display(),
                self.keep.error().unwrap_or_default(),
            ),
        }
    }

    /// Looks whether there is another signing key than ours on the disk.
    pub(super) fn read_signing_key(&mut self) -> Result<(), Failure> {
        let folder = self.folder.path();
        let read = |name| keyfiles::read_secret(&folder.join(name));
        let secret = read(key_files::SIGNING_SECRET)?;
        let cert = keyfiles::read_public(&folder.join(key_files::SIGNING_CERT))?;
        let (Some(secret), Some(cert)) = (secret, cert) else {
            return Ok(());
        };
        let taken = (self.relay).handle_signing_key(&secret, &cert, clock::now());
        taken.map_err(|error| Failure::new("the signing key stays", folder.display(), error))
    }

    pub(super) fn set_onion_keys(&mut self, onion: Arc<cepa_circuit::OnionKeys>) {
        if let Some(sender) = &self.keys {
            sender.send_modify(|keys| {
                *keys = Arc::new(NodeKeys {
                    acceptor: Arc::clone(&keys.acceptor),
                    link: Arc::clone(&keys.link),
                    onion: Arc::clone(&onion),
                });
            });
        }
        self.onion = Some(onion);
    }

    /// New links are accepted and opened with these keys; the first time, the workers start.
    pub(super) fn set_link(
        &mut self,
        key: &TlsKeyAndCert,
        link: Arc<LinkIdentity>,
    ) -> Result<(), Failure> {
        let acceptor = tls::server_config(tls::provider(), key).map_err(tls_failure)?;
        let (Some(onion), Some(switch)) = (&self.onion, &self.switch) else {
            return fail(
                "keys came in the wrong order",
                "the relay core",
                "this is a bug",
            );
        };
        let keys = Arc::new(NodeKeys {
            acceptor,
            link,
            onion: Arc::clone(onion),
        });
        if let Some(sender) = &self.keys {
            sender.send_replace(keys);
            return Ok(());
        }
        let (sender, receiver) = watch::channel(keys);
        let setup = Setup {
            workers: self.config.workers,
            config: Arc::clone(switch),
            relays: Arc::clone(&self.relays),
            keys: receiver,
            connector: Arc::clone(&self.connector),
            bind: self.bind,
            exit_from: self.config.exit_from.clone(),
            link_versions: self.config.link_versions,
            shows_identity: self.config.bridge.is_none(),
            resolver: self.resolver.clone(),
            directory: (self.directory).server(http::Limits::default(), self.doors.gate(BEGIN_DIR)),
            control: tokio::runtime::Handle::current(),
            traffic: Arc::clone(&self.traffic),
            memory: Arc::clone(self.relay.memory()),
            doors: self.doors.clone(),
            pace: Arc::clone(&self.pace),
            clients: self.config.bridge.is_some().then(|| self.clients.0.clone()),
        };
        let workers = Workers::start(setup, &mut self.rng)?;
        workers.set_wakefulness(self.relay.wakefulness());
        let (doors, inside) = (self.doors.clone(), workers.clone());
        tokio::spawn(doors.run_teller(move || {
            let workers = inside.clone();
            async move { workers.counts().await.dos }
        }));
        for listener in self.listeners.drain(..) {
            tokio::spawn(workers.clone().accept(listener));
        }
        if let Some(port) = self.extended.take() {
            workers.accept_extended(port, &mut self.rng);
        }
        self.workers = Some(workers);
        self.write_bridge();
        self.keys = Some(sender);
        self.reporter.report(&Stage::Listening);
        Ok(())
    }
}

pub(super) fn read_keys(
    folder: &Folder,
    store: &Store,
    config: &RelayConfig,
    rng: &mut Rng,
) -> Result<RelayKeys, Failure> {
    folder.keys()?;
    let mut files = BTreeMap::new();
    let is_offline = config.is_master_offline;
    let public = folder.path().join(key_files::MASTER_PUBLIC);
    if is_offline && !public.exists() {
        let advice = "make the keys elsewhere with cepa relay keygen, and copy them here";
        return fail("there is no master identity", public.display(), advice);
    }
    for name in key_files::READ_FILES {
        if is_offline && name == key_files::MASTER_SECRET {
            continue;
        }
        let path: PathBuf = folder.path().join(name);
        let is_public = PUBLIC_FILES.contains(&name);
        let read = match is_public {
            true => keyfiles::read_public(&path)?.map(Zeroizing::new),
            false => keyfiles::read_secret(&path)?,
        };
        files.extend(read.map(|bytes| (name.to_owned(), bytes)));
    }
    let since = store
        .texts(kept::NTOR_SINCE)?
        .first()
        .and_then(|text| text.parse().ok());
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or(0));
    let certified = config.key_times.signing;
    RelayKeys::parse_for(&files, since, certified, clock::now(), rng)
        .map_err(|error| Failure::new("the keys cannot be used", folder.path().display(), error))
}
