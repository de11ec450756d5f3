//! How the bodies of directory replies are compressed (dir-spec 6.1 and what `tor` does).
//!
//! `identity`, `deflate` (zlib), `gzip`, `x-zstd` and `x-tor-lzma` (the `lzma_alone` format) are
//! spoken. A compressed body of a stranger is expanded only up to a bound, and one that grows too
//! fast is taken for a bomb, by the same rule as `tor`'s.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use lzma_rust2::{LzmaOptions, LzmaReader, LzmaWriter};

/// Up to this size any growth is believed.
const BOMB_BYTES: usize = 5 << 20;
/// Beyond it a body that grows by more than this factor is a bomb.
const BOMB_FACTOR: usize = 25;
/// The level for documents that are compressed once and served often.
const ZSTD_LEVEL: i32 = 9;
/// The level for what is compressed for one asker alone.
const ZSTD_LEVEL_QUICK: i32 = 3;
/// Of the presets of lzma, whose memory and time grow with them: 2 MB are looked back.
const LZMA_PRESET: u32 = 2;
/// What expanding lzma may take: the same as in `tor`.
const LZMA_MEMORY_KB: u32 = 16 << 10;
/// Entries of an Accept-Encoding header that are read.
const ACCEPT_ITEMS_MAX: usize = 32;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// The body as it is.
    Identity,
    /// zlib.
    Deflate,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// lzma.
    Lzma,
}

/// Why a body cannot be expanded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A coding that we do not speak.
    #[error("content encoding {0:?} is not known")]
    Unknown(String),
    /// The bytes are not of that coding.
    #[error("the body is damaged: {0}")]
    Damaged(io::Error),
    /// It grows past the bound, or too fast.
    #[error("the body grows past its bound")]
    TooLarge,
}

impl Encoding {
    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Deflate => "deflate",
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "x-zstd",
            Encoding::Lzma => "x-tor-lzma",
        }
    }

    /// Reads a Content-Encoding header; none means identity.
    pub fn parse(header: Option<&str>) -> Result<Self, DecodeError> {
        match header.map(str::trim) {
            None | Some("" | "identity") => Ok(Encoding::Identity),
            Some("deflate" | "x-deflate") => Ok(Encoding::Deflate),
            Some("gzip" | "x-gzip") => Ok(Encoding::Gzip),
            Some("x-zstd" | "zstd") => Ok(Encoding::Zstd),
            Some("x-tor-lzma") => Ok(Encoding::Lzma),
            Some(other) => Err(DecodeError::Unknown(other.chars().take(32).collect())),
        }
    }

    /// What clients of ours accept, best first.
    pub fn accept_header() -> &'static str {
        "x-zstd, x-tor-lzma, deflate, gzip, identity"
    }

    /// The best coding that the asker takes; lzma is the slowest to make, and comes last. Without
    /// a header, a path that ends in `.z` means deflate and any other identity, as the protocol had
    /// it before there were headers.
    pub fn choose(accept: Option<&str>, z: bool) -> Self {
        let Some(accept) = accept else {
            return if z {
                Encoding::Deflate
            } else {
                Encoding::Identity
            };
        };
        let offered = |name: &str| {
            accept.split(',').take(ACCEPT_ITEMS_MAX).any(|item| {
                item.split(';')
                    .next()
                    .is_some_and(|item| item.trim().eq_ignore_ascii_case(name))
            })
        };
        let by_cost = [
            Encoding::Zstd,
            Encoding::Deflate,
            Encoding::Gzip,
            Encoding::Lzma,
        ];
        let taken = by_cost.into_iter().find(|one| offered(one.name()));
        taken.unwrap_or(Encoding::Identity)
    }

    /// The best coding for what is compressed for this asker alone: never lzma, whose time anybody
    /// could ask for (`tor`: srv_meth_pref_streaming_compression).
    pub fn choose_quick(accept: Option<&str>, z: bool) -> Self {
        match Self::choose(accept, z) {
            Encoding::Lzma => Encoding::Identity,
            other => other,
        }
    }

    /// Compresses what is served once.
    pub fn encode_quickly(self, body: Vec<u8>) -> Vec<u8> {
        let encoded = match self {
            Encoding::Identity => return body,
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }
            Encoding::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL_QUICK),
            Encoding::Lzma => lzma(&body),
        };
        encoded.expect("compression into memory does not fail")
    }

    /// Compresses a whole document.
    pub fn encode(self, body: &[u8]) -> Vec<u8> {
        // Writing to memory fails only by a bug of the library; the plain bytes would then go out
        // under a wrong name, so this is ours to assert.
        let encoded = match self {
            Encoding::Identity => Ok(body.to_vec()),
            Encoding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Encoding::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Encoding::Lzma => lzma(body),
        };
        encoded.expect("compression into memory does not fail")
    }

    /// Expands a stranger's body to at most `len_max` bytes.
    pub fn decode(self, body: &[u8], len_max: usize) -> Result<Vec<u8>, DecodeError> {
        let len_max = len_max.min(BOMB_BYTES.max(body.len().saturating_mul(BOMB_FACTOR)));
        match self {
            Encoding::Identity => expand(body, len_max),
            Encoding::Deflate => expand(ZlibDecoder::new(body), len_max),
            Encoding::Gzip => expand(GzDecoder::new(body), len_max),
            Encoding::Zstd => {
                let decoder = zstd::Decoder::new(body).map_err(DecodeError::Damaged)?;
                expand(decoder, len_max)
            }
            Encoding::Lzma => {
                let decoder = LzmaReader::new_mem_limit(body, LZMA_MEMORY_KB, None);
                expand(decoder.map_err(DecodeError::Damaged)?, len_max)
            }
        }
    }
}

fn lzma(body: &[u8]) -> io::Result<Vec<u8>> {
    let options = LzmaOptions::with_preset(LZMA_PRESET);
    let mut encoder = LzmaWriter::new_use_header(Vec::new(), &options, None)?;
    encoder.write_all(body)?;
    encoder.finish()
}

fn expand(reader: impl Read, len_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let limit = u64::try_from(len_max).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut out)
        .map_err(DecodeError::Damaged)?;
    if out.len() > len_max {
        Err(DecodeError::TooLarge)
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Encoding; 5] = [
        Encoding::Identity,
        Encoding::Deflate,
        Encoding::Gzip,
        Encoding::Zstd,
        Encoding::Lzma,
    ];

    #[test]
    fn the_best_offered_coding_is_chosen() {
        let choose = Encoding::choose;
        assert_eq!(choose(None, true), Encoding::Deflate);
        assert_eq!(choose(None, false), Encoding::Identity);
        assert_eq!(
            choose(Some("deflate, gzip, x-tor-lzma, x-zstd"), true),
            Encoding::Zstd
        );
        assert_eq!(choose(Some("gzip;q=0.5, identity"), true), Encoding::Gzip);
        assert_eq!(choose(Some("x-tor-lzma"), true), Encoding::Lzma);
        assert_eq!(choose(Some("x-lzma"), true), Encoding::Identity);
        let quick = Encoding::choose_quick;
        assert_eq!(
            quick(Some("x-tor-lzma, identity"), true),
            Encoding::Identity
        );
        assert_eq!(quick(Some("x-tor-lzma, gzip"), true), Encoding::Gzip);
    }

    #[test]
    fn a_bomb_is_refused() {
        for encoding in &ALL[1..] {
            let bomb = encoding.encode(&vec![0; BOMB_BYTES * 2]);
            assert!(matches!(
                encoding.decode(&bomb, usize::MAX),
                Err(DecodeError::TooLarge)
            ));
        }
        let long = Encoding::Zstd.encode(&[b'x'; 1000]);
        assert!(matches!(
            Encoding::Zstd.decode(&long, 999),
            Err(DecodeError::TooLarge)
        ));
    }

    #[test]
    fn a_body_that_ends_early_or_goes_on_is_no_endless_work() {
        // TROVE-2026-021 and 022: a truncated stream was waited for without end, and bombs were let
        // through in pieces.
        let text: Vec<u8> = (0..2000_u32).flat_map(u32::to_be_bytes).collect();
        for encoding in &ALL[1..] {
            let whole = encoding.encode(&text);
            for len in 0..whole.len() {
                let cut = encoding.decode(&whole[..len], usize::MAX);
                assert!(cut.is_err() || cut.is_ok_and(|it| it.len() <= text.len()));
            }
            let piece = encoding.encode(&vec![0; 1 << 20]);
            let decoded = encoding.decode(&piece.repeat(64), usize::MAX);
            assert!(
                decoded.map_or(0, |it| it.len()) <= BOMB_BYTES,
                "{encoding:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(body: Vec<u8>) {
            for encoding in ALL {
                for coded in [encoding.encode(&body), encoding.encode_quickly(body.clone())] {
                    prop_assert_eq!(encoding.decode(&coded, body.len()).ok(), Some(body.clone()));
                }
            }
        }

        #[test]
        fn garbage_is_an_error_or_short(body: Vec<u8>) {
            for encoding in ALL {
                if let Ok(plain) = encoding.decode(&body, 1 << 16) {
                    prop_assert!(plain.len() <= 1 << 16);
                }
            }
        }
    }
}
