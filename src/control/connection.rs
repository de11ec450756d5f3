//! One connection of a controller, from its first byte to its last.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cepa_control::auth::{Authenticator, Credentials, Facts, NONCE_LEN, Verdict};
use cepa_control::{Command, LineReader, Profile, RawCommand, Refusal, Reply};
use cepa_crypto::Rng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use super::{Answers, ConnectionId, Outbox, Said, VERSION};
use crate::doors::Pass;

/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Shared {
    desk: mpsc::Sender<Said>,
    credentials: Arc<Credentials>,
    rng: Arc<Mutex<Rng>>,
    last: Arc<AtomicU64>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    Away,
}

impl Shared {
    pub(super) fn new(desk: mpsc::Sender<Said>, credentials: Arc<Credentials>, rng: Rng) -> Self {
        Shared {
            desk,
            credentials,
            rng: Arc::new(Mutex::new(rng)),
            last: Arc::default(),
        }
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.array()
    }

    /// Serves a connection until one side has enough of it.
    pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, pass: Pass) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut connection = Connection {
            id: ConnectionId(number),
            authenticator: Authenticator::new(Arc::clone(&self.credentials)),
            shared: self,
            reader: LineReader::new(),
            profile: None,
            outbox: Arc::default(),
        };
        let served = tokio::select! {
            served = connection.run(stream, &pass) => served,
            () = pass.evicted() => Err(io::Error::other("its place is needed")),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a controller is hung up on");
        }
        if connection.profile.is_some() {
            let _ = connection
                .shared
                .desk
                .send(Said::Closed(connection.id))
                .await;
        }
    }
}

struct Connection {
    id: ConnectionId,
    shared: Shared,
    reader: LineReader,
    authenticator: Authenticator,
    /// What may be said; none before authentication.
    profile: Option<Arc<Profile>>,
    outbox: Arc<Outbox>,
}

impl Connection {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: S,
        pass: &Pass,
    ) -> io::Result<()> {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut buffer = [0; READ_BYTES];
        let outbox = Arc::clone(&self.outbox);
        loop {
            send(&outbox, &mut write).await?;
            let bytes = tokio::select! {
                biased;
                () = outbox.ready() => continue,
                bytes = read.read(&mut buffer) => bytes?,
            };
            if bytes == 0 {
                return Ok(());
            }
            self.reader.push(buffer.get(..bytes).unwrap_or_default());
            if self.take_commands(&mut write, pass).await? == Goes::Away {
                send(&outbox, &mut write).await?;
                return write.shutdown().await;
            }
        }
    }

    /// Obeys all commands that are there, each behind the reply to the one before.
    async fn take_commands<W: AsyncWrite + Unpin>(
        &mut self,
        write: &mut W,
        pass: &Pass,
    ) -> io::Result<Goes> {
        loop {
            let raw = match self.reader.next_command() {
                Ok(Some(raw)) => raw,
                Ok(None) => return Ok(Goes::On),
                Err(error) => {
                    tracing::debug!(%error, "a controller is hung up on");
                    write.write_all(error.reply().as_bytes()).await?;
                    return Ok(Goes::Away);
                }
            };
            if self.take(&raw, pass).await == Goes::Away {
                return Ok(Goes::Away);
            }
            send(&self.outbox, write).await?;
        }
    }

    async fn take(&mut self, raw: &RawCommand, pass: &Pass) -> Goes {
        let command = Command::parse(raw);
        let nonce = self.shared.nonce();
        let facts = Facts {
            version: VERSION,
            nonce: &nonce,
        };
        if let Some((reply, verdict)) = self.authenticator.handle(&raw.keyword, &command, facts) {
            let goes = match verdict {
                Verdict::Stay => Goes::On,
                Verdict::Close => Goes::Away,
                Verdict::Trusted(profile) => self.trust(profile, pass).await,
            };
            self.outbox.push_reply(reply.encode());
            return goes;
        }
        match command {
            Ok(command) => self.obey(command).await,
            Err(refusal) => {
                self.outbox.push_reply(Reply::from(refusal).encode());
                Goes::On
            }
        }
    }

    async fn trust(&mut self, profile: Arc<Profile>, pass: &Pass) -> Goes {
        self.reader.trust();
        pass.set_busy(true);
        if self.profile.replace(profile).is_some() {
            return Goes::On;
        }
        let opened = Said::Opened(self.id, Arc::clone(&self.outbox));
        self.tell(opened).await
    }

    async fn obey(&mut self, command: Command) -> Goes {
        if let Some(profile) = &self.profile
            && let Err(denied) = profile.check(&command)
        {
            tracing::warn!("a controller is refused a command: {denied}");
            self.outbox
                .push_reply(Reply::from(Refusal::from(&denied)).encode());
            return Goes::On;
        }
        let (done, is_done) = oneshot::channel();
        if self
            .tell(Said::Command(
                self.id,
                Box::new(command),
                Answers::new(),
                done,
            ))
            .await
            == Goes::Away
        {
            return Goes::Away;
        }
        match is_done.await {
            Ok(()) => Goes::On,
            Err(_) => Goes::Away,
        }
    }

    async fn tell(&self, said: Said) -> Goes {
        match self.shared.desk.send(said).await {
            Ok(()) => Goes::On,
            Err(_) => Goes::Away,
        }
    }
}

/// Writes what waits.
async fn send<W: AsyncWrite + Unpin>(outbox: &Outbox, write: &mut W) -> io::Result<()> {
    while let Some(bytes) = outbox.pop() {
        write.write_all(&bytes).await?;
        outbox.sent(bytes.len());
    }
    Ok(())
}
