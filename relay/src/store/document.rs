//! A document that is served: its text, and its text under each encoding once somebody asked.
//!
//! The first who asks pays for the compression; all others get the same bytes. What is made of
//! several documents at once (a batch of microdescriptors) is compressed for each reply.

use std::sync::{Arc, OnceLock};

use cepa_dir::encoding::Encoding;

/// One text with its encodings. Not cheap to clone; shared by `Arc`.
#[derive(Debug)]
pub(super) struct Document {
    text: Arc<str>,
    plain: OnceLock<Arc<[u8]>>,
    deflate: OnceLock<Arc<[u8]>>,
    gzip: OnceLock<Arc<[u8]>>,
    zstd: OnceLock<Arc<[u8]>>,
    lzma: OnceLock<Arc<[u8]>>,
}

impl Document {
    /// A document nobody has asked for so far.
    #[must_use]
    pub(super) fn new(text: Arc<str>) -> Self {
        Document {
            text,
            plain: OnceLock::new(),
            deflate: OnceLock::new(),
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
            lzma: OnceLock::new(),
        }
    }

    /// Its bytes under an encoding.
    #[must_use]
    pub(super) fn encoded(&self, encoding: Encoding) -> Arc<[u8]> {
        let (cell, bytes) = match encoding {
            Encoding::Identity => (&self.plain, None),
            Encoding::Deflate => (&self.deflate, Some(encoding)),
            Encoding::Gzip => (&self.gzip, Some(encoding)),
            Encoding::Zstd => (&self.zstd, Some(encoding)),
            Encoding::Lzma => (&self.lzma, Some(encoding)),
        };
        let make = || match bytes {
            None => Arc::from(self.text.as_bytes()),
            Some(encoding) => Arc::from(encoding.encode(self.text.as_bytes())),
        };
        Arc::clone(cell.get_or_init(make))
    }
}
