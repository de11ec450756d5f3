//! What becomes of a request's body, from its head on.
//!
//! Nothing of a body is read before a [`Door`] has said, from the head alone, that it may be sent
//! at all and how long it may be. Its bytes are reserved as they come, not as they are announced,
//! so that a lie costs nothing and a slow sender holds what he has sent. A door may look at the
//! first bytes and refuse the rest.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::{Reply, Request, Reservation};

/// Says from the head of a request what may follow it.
pub type Door = Arc<dyn Fn(&Request) -> Result<Admission, Reply> + Send + Sync>;

/// Whatever is to be held with a body.
pub(crate) type Held = Box<dyn std::any::Any + Send + Sync>;

/// Looks at what has come of a body so far.
pub type Look = Box<dyn FnMut(&[u8]) -> Looked + Send>;

/// What was seen of a body so far.
#[derive(Debug)]
pub enum Looked {
    /// More of it is needed.
    More,
    /// All of it may come; what is in there is held as long as its bytes are.
    Good(Held),
    /// The body is refused with this reply, and no more of it is read.
    Refused(Reply),
}

/// A body that may be sent.
pub struct Admission {
    /// Bytes at most, as they are on the wire.
    pub len_max: usize,
    /// What its bytes are counted against.
    pub reservation: Reservation,
    /// Looks at the beginning, if the head does not say enough.
    pub look: Option<Look>,
}

/// So much more of a body is there when it is looked at again; not for each byte of a slow one.
const LOOK_EVERY: usize = 4 << 10;
/// The least that is reserved at once.
const GROW_MIN: usize = 16 << 10;

/// A door that lets no body in: for what is only asked.
pub(super) fn shut() -> Door {
    Arc::new(|_| Err(Reply::new(400).with_reason("No body is taken here")))
}

/// Whether there is a body at all.
pub(super) fn is_there(body: &Incoming) -> bool {
    !body.is_end_stream()
}

impl Admission {
    /// The whole body, or the reply that refuses it.
    pub(super) async fn read(mut self, mut body: Incoming) -> Result<Bytes, Reply> {
        let len_max = u64::try_from(self.len_max).unwrap_or(u64::MAX);
        if body.size_hint().lower() > len_max {
            return Err(Reply::new(413));
        }
        let (mut bytes, mut looked, mut held) = (Vec::new(), 0, None);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(Reply::new(400));
            };
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.add(&mut bytes, data)?;
            if bytes.len() >= looked + LOOK_EVERY || body.is_end_stream() {
                looked = bytes.len();
                held = self.look(&bytes)?.or(held);
            }
        }
        Ok(self.reservation.owned(bytes, held))
    }

    fn add(&mut self, bytes: &mut Vec<u8>, data: Bytes) -> Result<(), Reply> {
        let len = bytes.len() + data.remaining();
        if len > self.len_max {
            return Err(Reply::new(413));
        }
        if len > bytes.capacity() {
            let larger = bytes.capacity() + (bytes.capacity() / 2).max(GROW_MIN);
            let grow = larger.min(self.len_max).max(len) - bytes.capacity();
            if !self.reservation.grow(grow) {
                let reason = "Too much is being sent here, try again later";
                return Err(Reply::new(503).with_reason(reason));
            }
            bytes.reserve_exact(bytes.capacity() + grow - bytes.len());
        }
        bytes.extend_from_slice(&data);
        Ok(())
    }

    fn look(&mut self, bytes: &[u8]) -> Result<Option<Held>, Reply> {
        match self.look.as_mut().map(|look| look(bytes)) {
            None | Some(Looked::More) => Ok(None),
            Some(Looked::Good(held)) => {
                self.look = None;
                Ok(Some(held))
            }
            Some(Looked::Refused(reply)) => Err(reply),
        }
    }
}
