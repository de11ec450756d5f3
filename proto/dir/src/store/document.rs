//! A document that is served: its text, and its text under each encoding once somebody asked.
//!
//! The first who asks pays for what it takes to make it, all others get the same bytes: for a
//! text, its compression; for a difference of two consensuses, that difference; for many documents
//! that are asked for together by many, their text. A batch that one asker names is compressed for
//! each reply, and not held.

use std::sync::{Arc, OnceLock};

use crate::encoding::Encoding;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::diff;

/// Of what a document is made.
#[derive(Debug)]
enum Origin {
    Text(Arc<str>),
    Texts(Vec<Arc<str>>),
    Diff(ConsensusText, ConsensusText),
}

/// One text with its encodings. Not cheap to clone; shared by `Arc`.
#[derive(Debug)]
pub(super) struct Document {
    origin: Origin,
    plain: OnceLock<Option<Arc<[u8]>>>,
    deflate: OnceLock<Option<Arc<[u8]>>>,
    gzip: OnceLock<Option<Arc<[u8]>>>,
    zstd: OnceLock<Option<Arc<[u8]>>>,
    lzma: OnceLock<Option<Arc<[u8]>>>,
}

impl Document {
    /// A document nobody has asked for so far.
    #[must_use]
    pub(super) fn new(text: Arc<str>) -> Self {
        Self::of(Origin::Text(text))
    }

    /// Documents one behind the other.
    #[must_use]
    pub(super) fn of_all(texts: Vec<Arc<str>>) -> Self {
        Self::of(Origin::Texts(texts))
    }

    /// The way from one consensus to another.
    #[must_use]
    pub(super) fn diff(base: ConsensusText, target: ConsensusText) -> Self {
        Self::of(Origin::Diff(base, target))
    }

    fn of(origin: Origin) -> Self {
        Document {
            origin,
            plain: OnceLock::new(),
            deflate: OnceLock::new(),
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
            lzma: OnceLock::new(),
        }
    }

    fn cell(&self, encoding: Encoding) -> &OnceLock<Option<Arc<[u8]>>> {
        match encoding {
            Encoding::Identity => &self.plain,
            Encoding::Deflate => &self.deflate,
            Encoding::Gzip => &self.gzip,
            Encoding::Zstd => &self.zstd,
            Encoding::Lzma => &self.lzma,
        }
    }

    /// Whether somebody asked for it under this encoding before.
    #[must_use]
    pub(super) fn is_made(&self, encoding: Encoding) -> bool {
        self.cell(encoding).get().is_some()
    }

    /// Its bytes under an encoding; `None` if it is a difference that there is not. That may take
    /// seconds the first time.
    #[must_use]
    pub(super) fn encoded(&self, encoding: Encoding) -> Option<Arc<[u8]>> {
        let make = || match encoding {
            Encoding::Identity => Some(self.text()?.into()),
            _ => {
                let plain = self.encoded(Encoding::Identity)?;
                Some(Arc::from(encoding.encode(&plain)))
            }
        };
        self.cell(encoding).get_or_init(make).clone()
    }

    fn text(&self) -> Option<Vec<u8>> {
        match &self.origin {
            Origin::Text(text) => Some(text.as_bytes().to_vec()),
            Origin::Texts(texts) => {
                let texts = texts.iter().map(|text| text.as_bytes());
                Some(texts.collect::<Vec<_>>().concat())
            }
            Origin::Diff(base, target) => Some(diff::make(base, target).ok()?.into_bytes()),
        }
    }
}
