//! Detached signatures: the document by which authorities exchange their signatures on a
//! consensus that each of them has computed (dir-spec 3.10).
//!
//! It names the ns consensus by the SHA-1 and the microdesc consensus by the SHA-256 of the signed
//! part, and holds signatures of both. As with `tor`, an unknown digest algorithm makes it
//! unusable; unknown flavours are skipped.

use std::fmt::Write as _;

use cepa_crypto::{RsaId, encoding};

use crate::consensus::{
    DigestAlgorithm, DirectorySignature, Flavour, Lifetime, SIGNATURES_MAX, StatusError, missing,
    once,
};
use crate::item::{Item, ItemError, Limits, Section};
use crate::timestamp;

/// The largest document of signatures that is read.
pub const DETACHED_BYTES_MAX: usize = 1 << 20;

const LIMITS: Limits = Limits {
    bytes_max: DETACHED_BYTES_MAX,
    items_max: 2 * SIGNATURES_MAX + 64,
};

/// Signatures on both flavours of one consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachedSignatures {
    /// SHA-1 of the signed part of the ns consensus.
    pub consensus_digest: [u8; 20],
    /// The times of the consensus.
    pub lifetime: Lifetime,
    /// SHA-256 of the signed part of the microdesc consensus.
    pub microdesc_digest: Option<[u8; 32]>,
    /// Signatures on the ns consensus.
    pub ns: Vec<DirectorySignature>,
    /// Signatures on the microdesc consensus.
    pub microdesc: Vec<DirectorySignature>,
}

impl DetachedSignatures {
    /// Reads the document; no signature is checked.
    ///
    /// # Errors
    /// [`StatusError`] for whatever `tor` refuses too.
    pub fn parse(text: &str) -> Result<Self, StatusError> {
        let section = Section::parse(text, LIMITS)?;
        let first = section.required_at(0, "consensus-digest")?;
        let consensus_digest: RsaId = first.arg_as(0)?;
        let time = |keyword: &str| section.required(keyword)?.timestamp(0);
        let mut document = Self {
            consensus_digest: *consensus_digest.as_bytes(),
            lifetime: Lifetime {
                valid_after: time("valid-after")?,
                fresh_until: time("fresh-until")?,
                valid_until: time("valid-until")?,
            },
            microdesc_digest: None,
            ns: Vec::new(),
            microdesc: Vec::new(),
        };
        for item in &section.items {
            match item.keyword {
                "additional-digest" => document.additional_digest(item)?,
                "additional-signature" => document.additional_signature(item)?,
                "directory-signature" => {
                    let signature = DirectorySignature::parse(item)?;
                    let signature = signature.filter(|one| one.algorithm == DigestAlgorithm::Sha1);
                    add(
                        &mut document.ns,
                        signature.ok_or_else(|| item.bad_argument(0))?,
                    )?;
                }
                _ => {}
            }
        }
        if document.microdesc_digest.is_none() && !document.microdesc.is_empty() {
            return Err(missing("additional-digest"));
        }
        Ok(document)
    }

    /// Writes the document in `tor`'s order: the other flavours before the unnamed first.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        let hex = encoding::hex_upper(&self.consensus_digest);
        let _ = writeln!(out, "consensus-digest {hex}");
        for (keyword, time) in [
            ("valid-after", self.lifetime.valid_after),
            ("fresh-until", self.lifetime.fresh_until),
            ("valid-until", self.lifetime.valid_until),
        ] {
            let _ = writeln!(out, "{keyword} {}", timestamp::encode(time));
        }
        if let Some(digest) = &self.microdesc_digest {
            let hex = encoding::hex_upper(digest);
            let _ = writeln!(out, "additional-digest microdesc sha256 {hex}");
        }
        for signature in &self.microdesc {
            let _ = write!(
                out,
                "additional-signature microdesc {} ",
                signature.algorithm.name()
            );
            signature.encode_tail(&mut out);
        }
        for signature in &self.ns {
            signature.encode(&mut out);
        }
        out
    }

    /// The signatures on one flavour.
    pub fn signatures(&self, flavour: Flavour) -> &[DirectorySignature] {
        match flavour {
            Flavour::Ns => &self.ns,
            Flavour::Microdesc => &self.microdesc,
        }
    }

    fn additional_digest(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if !is_microdesc_sha256(item)? {
            return Ok(());
        }
        let bytes = encoding::hex_decode(item.arg(2)?);
        let digest = bytes.and_then(|bytes| bytes.try_into().ok());
        once(
            item,
            &mut self.microdesc_digest,
            digest.ok_or_else(|| item.bad_argument(2))?,
        )
    }

    fn additional_signature(&mut self, item: &Item<'_>) -> Result<(), StatusError> {
        if !is_microdesc_sha256(item)? {
            return Ok(());
        }
        let signature = DirectorySignature::parse_from(item, DigestAlgorithm::Sha256, 2)?;
        add(&mut self.microdesc, signature)
    }
}

/// Whether the first two arguments are `microdesc sha256`: false for another flavour.
fn is_microdesc_sha256(item: &Item<'_>) -> Result<bool, ItemError> {
    if DigestAlgorithm::from_name(item.arg(1)?).is_none() {
        return Err(item.bad_argument(1));
    }
    Ok(item.arg(0)? == "microdesc" && item.arg(1)? == "sha256")
}

fn add(list: &mut Vec<DirectorySignature>, one: DirectorySignature) -> Result<(), StatusError> {
    if list.len() >= SIGNATURES_MAX {
        return Err(StatusError::TooMany("signatures"));
    }
    list.push(one);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: &str = include_str!("../../../tests/vectors/netdoc/consensus/detached");

    #[test]
    fn a_document_of_tor_round_trips() {
        let document = DetachedSignatures::parse(REAL).expect("tor's own document");
        assert_eq!(document.ns.len(), 3);
        assert_eq!(document.signatures(Flavour::Microdesc).len(), 3);
        assert_eq!(document.encode(), REAL);
    }

    #[test]
    fn an_unknown_algorithm_is_refused_and_an_unknown_flavour_skipped() {
        let other = REAL.replace("microdesc sha256", "microdesc sha512");
        assert!(DetachedSignatures::parse(&other).is_err());
        let other = REAL.replace("microdesc sha256", "shiny sha256");
        let document = DetachedSignatures::parse(&other).expect("skipped");
        assert!(document.microdesc.is_empty() && document.microdesc_digest.is_none());
        let bare = REAL.replace("additional-digest microdesc", "additional-digest shiny");
        assert!(DetachedSignatures::parse(&bare).is_err());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..REAL.len(), byte in 0u8..128, len in 0..REAL.len()) {
            let mut bytes = REAL.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(len);
            let _ = DetachedSignatures::parse(std::str::from_utf8(&bytes).expect("ASCII"));
        }
    }
}
