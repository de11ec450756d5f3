//! Writing and signing votes, line by line in `tor`'s order (dir-spec 3.4.1).

use std::fmt::Write as _;
use std::sync::Arc;

use cepa_crypto::{digest, rsa};

use crate::consensus::{
    DigestAlgorithm, DirectorySignature, SIGNATURE_KEYWORD, encode_dir_source, encode_optional,
    encode_timing, word_list,
};
use crate::timestamp;
use crate::vote::{Vote, VoteText};

impl Vote {
    /// The document up to its footer: all that comes before the signature.
    pub fn encode_unsigned(&self) -> String {
        let mut out = String::with_capacity(8192 + self.routers.len() * 700);
        self.encode_preamble(&mut out);
        self.encode_authority(&mut out);
        for router in &self.routers {
            router.encode(&mut out);
        }
        out.push_str("directory-footer\n");
        out
    }

    /// The whole document.
    pub fn encode(&self) -> String {
        let mut out = self.encode_unsigned();
        if let Some(signature) = &self.signature {
            signature.encode(&mut out);
        }
        out
    }

    /// Signs the vote with the key of its certificate and gives it with its bytes.
    pub fn sign(mut self, key: &rsa::Keypair) -> VoteText {
        let mut text = self.encode_unsigned();
        text.push_str(SIGNATURE_KEYWORD);
        let digest = digest::sha1(text.as_bytes());
        text.truncate(text.len() - SIGNATURE_KEYWORD.len());
        let author = self.author();
        let signature = DirectorySignature::sign(DigestAlgorithm::Sha1, &digest, author, key);
        signature.encode(&mut text);
        self.signature = Some(signature);
        VoteText {
            text: text.into(),
            digest,
            vote: Arc::new(self),
        }
    }

    fn encode_preamble(&self, out: &mut String) {
        let _ = writeln!(out, "network-status-version 3\nvote-status vote");
        let _ = writeln!(out, "consensus-methods {}", word_list(&self.methods));
        let _ = writeln!(out, "published {}", timestamp::encode(self.published));
        encode_timing(&self.lifetime, self.voting_delay, out);
        let lines = [
            ("client-versions", &self.client_versions),
            ("server-versions", &self.server_versions),
            (
                "recommended-relay-protocols",
                &self.protocols.recommended_relay,
            ),
            (
                "recommended-client-protocols",
                &self.protocols.recommended_client,
            ),
            ("required-relay-protocols", &self.protocols.required_relay),
            ("required-client-protocols", &self.protocols.required_client),
        ];
        encode_optional(&lines, out);
        let _ = writeln!(out, "known-flags {}", word_list(&self.known_flags));
        encode_optional(&[("flag-thresholds", &self.flag_thresholds)], out);
        let _ = writeln!(out, "params {}", self.params);
        let lines = [
            ("bandwidth-file-headers", &self.bandwidth_file_headers),
            ("bandwidth-file-digest", &self.bandwidth_file_digest),
        ];
        encode_optional(&lines, out);
    }

    fn encode_authority(&self, out: &mut String) {
        encode_dir_source(&self.dir_source, out);
        let _ = writeln!(out, "contact {}", self.contact);
        if self.shared_rand.participates {
            out.push_str("shared-rand-participate\n");
            for commit in &self.shared_rand.commits {
                commit.encode(out);
            }
            if let Some(value) = &self.shared_rand.previous {
                value.encode("shared-rand-previous-value", out);
            }
            if let Some(value) = &self.shared_rand.current {
                value.encode("shared-rand-current-value", out);
            }
        }
        if let Some(key) = &self.legacy_dir_key {
            let _ = writeln!(out, "legacy-dir-key {key}");
        }
        out.push_str(&self.certificate.text);
    }
}
