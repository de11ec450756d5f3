//! Writing consensuses, byte for byte as `tor` writes those of method 34 on (dir-spec 3.4.1).
//!
//! What is signed must be the same at every authority, so the order of lines and each optional
//! line's presence follow `tor` where the text leaves them open.

use std::fmt::Write as _;

use cepa_crypto::{RsaId, digest, encoding, rsa};

use crate::consensus::{
    Consensus, DigestAlgorithm, DirSource, DirectorySignature, Flavour, Lifetime,
    SIGNATURE_KEYWORD, VotingDelay,
};
use crate::timestamp;

impl Consensus {
    /// The document up to its footer: all that comes before the signatures.
    pub fn encode_unsigned(&self) -> String {
        let mut out = String::with_capacity(4096 + self.routers.len() * 400);
        self.encode_preamble(&mut out);
        for authority in &self.authorities {
            encode_dir_source(&authority.dir_source, &mut out);
            if let Some(contact) = &authority.contact {
                let _ = writeln!(out, "contact {contact}");
            }
            if let Some(digest) = &authority.vote_digest {
                let _ = writeln!(out, "vote-digest {}", encoding::hex_upper(digest));
            }
        }
        for router in &self.routers {
            router.encode_consensus(self.flavour.entry_kind(), &mut out);
        }
        out.push_str("directory-footer\n");
        if !self.bandwidth_weights.is_empty() {
            let _ = writeln!(out, "bandwidth-weights {}", self.bandwidth_weights);
        }
        out
    }

    /// The whole document with its signatures, in the order in which they are held.
    pub fn encode(&self) -> String {
        let mut out = self.encode_unsigned();
        for signature in &self.signatures {
            signature.encode(&mut out);
        }
        out
    }

    /// The digest that authorities sign: of the unsigned document and the keyword and space
    /// behind it. SHA-1 (20 bytes) for the ns flavour, SHA-256 (32) for the microdesc flavour.
    pub fn signed_digest(&self) -> Vec<u8> {
        let mut text = self.encode_unsigned();
        text.push_str(SIGNATURE_KEYWORD);
        match self.flavour.digest_algorithm() {
            DigestAlgorithm::Sha1 => digest::sha1(text.as_bytes()).to_vec(),
            DigestAlgorithm::Sha256 => digest::sha256(text.as_bytes()).to_vec(),
        }
    }

    /// The signature of an authority on this document; to be added to `signatures`.
    pub fn sign(&self, identity: RsaId, key: &rsa::Keypair) -> DirectorySignature {
        let algorithm = self.flavour.digest_algorithm();
        DirectorySignature::sign(algorithm, &self.signed_digest(), identity, key)
    }

    /// Puts the signatures in the order of the authorities, as `tor` has them.
    pub fn sort_signatures(&mut self) {
        self.signatures
            .sort_by_key(|signature| (signature.identity, signature.signing_key));
    }

    fn encode_preamble(&self, out: &mut String) {
        out.push_str("network-status-version 3");
        if self.flavour != Flavour::Ns {
            let _ = write!(out, " {}", self.flavour.name());
        }
        let _ = writeln!(
            out,
            "\nvote-status consensus\nconsensus-method {}",
            self.method
        );
        encode_timing(&self.lifetime, self.voting_delay, out);
        let versions = [
            ("client-versions", &self.client_versions),
            ("server-versions", &self.server_versions),
        ];
        let protocols = [
            (
                "recommended-client-protocols",
                &self.protocols.recommended_client,
            ),
            (
                "recommended-relay-protocols",
                &self.protocols.recommended_relay,
            ),
            ("required-client-protocols", &self.protocols.required_client),
            ("required-relay-protocols", &self.protocols.required_relay),
        ];
        encode_optional(&versions, out);
        let _ = writeln!(out, "known-flags {}", word_list(&self.known_flags));
        encode_optional(&protocols, out);
        if !self.params.is_empty() {
            let _ = writeln!(out, "params {}", self.params);
        }
        if let Some(value) = &self.shared_rand_previous {
            value.encode("shared-rand-previous-value", out);
        }
        if let Some(value) = &self.shared_rand_current {
            value.encode("shared-rand-current-value", out);
        }
    }
}

/// Writes each line that is there; an empty one keeps the space behind its keyword.
pub(crate) fn encode_optional(lines: &[(&str, &Option<String>)], out: &mut String) {
    for (keyword, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(out, "{keyword} {value}");
        }
    }
}

pub(crate) fn encode_timing(lifetime: &Lifetime, delay: VotingDelay, out: &mut String) {
    for (keyword, time) in [
        ("valid-after", lifetime.valid_after),
        ("fresh-until", lifetime.fresh_until),
        ("valid-until", lifetime.valid_until),
    ] {
        let _ = writeln!(out, "{keyword} {}", timestamp::encode(time));
    }
    let _ = writeln!(
        out,
        "voting-delay {} {}",
        delay.vote_seconds, delay.dist_seconds
    );
}

pub(crate) fn encode_dir_source(source: &DirSource, out: &mut String) {
    let DirSource {
        nickname,
        identity,
        hostname,
        ip,
        dir_port,
        or_port,
    } = source;
    let _ = writeln!(
        out,
        "dir-source {nickname} {identity} {hostname} {ip} {dir_port} {or_port}"
    );
}

/// Words with single spaces between them.
pub(crate) fn word_list(words: &[String]) -> String {
    words.join(" ")
}
