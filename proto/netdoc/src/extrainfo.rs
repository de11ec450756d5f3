//! Extra-info documents: statistics of a relay that clients do not need (dir-spec.txt section
//! 2.1.2).
//!
//! Which lines of statistics there are is of no interest here: they are kept as they are.
//! [`ExtraInfo::parse`] checks what can be checked alone (the Ed25519 chain);
//! [`ExtraInfo::check_against`] holds the document against the descriptor that announced it.

use std::time::SystemTime;

use cepa_crypto::{Ed25519Id, RsaId, digest};

use crate::descriptor::{
    BuildError, DescriptorError, DescriptorKeys, ExtraInfoDigest, RouterSignatures,
    ServerDescriptor, append_signatures,
};
use crate::family::is_nickname;
use crate::item::{Limits, Section, split_documents};
use crate::pem;
use crate::timestamp;

/// Largest extra-info document (`tor`'s `MAX_EXTRAINFO_UPLOAD_SIZE`).
pub const EXTRA_INFO_LIMITS: Limits = Limits {
    bytes_max: 50_000,
    items_max: 4096,
};

/// Why an extra-info document does not belong to a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraInfoMismatch {
    /// It is of another relay, or its certificate is another one.
    #[error("extra-info of another relay")]
    OtherRelay,
    /// The digest that the descriptor announces is another one.
    #[error("extra-info with another digest than announced")]
    OtherDigest,
    /// It was made at another time than the descriptor.
    #[error("extra-info and descriptor of different times")]
    OtherTime,
    /// The RSA signature is not by the relay's identity key.
    #[error("signature of the extra-info does not verify")]
    BadSignature,
}

/// An extra-info document.
#[derive(Debug)]
pub struct ExtraInfo {
    /// The document as it was read.
    pub text: String,
    /// Its digests, as the descriptor announces them.
    pub digest: ExtraInfoDigest,
    /// The relay's nickname.
    pub nickname: String,
    /// The relay's RSA identity; the signature by it is checked against the descriptor only.
    pub identity: RsaId,
    /// The relay's master identity.
    pub ed25519: Ed25519Id,
    /// When the document was made: the same second as its descriptor.
    pub published: SystemTime,
    /// The lines of statistics, without their newlines.
    pub statistics: Vec<String>,
    signatures: RouterSignatures,
}

impl ExtraInfo {
    /// Reads a document and checks its Ed25519 signature; blank lines behind it are ignored.
    pub fn parse(text: &str) -> Result<Self, DescriptorError> {
        let section = Section::parse(text, EXTRA_INFO_LIMITS)?;
        let head = section.required_at(0, "extra-info")?;
        let nickname = Some(head.arg(0)?).filter(|name| is_nickname(name));
        let signatures = RouterSignatures::read(&section)?;
        let published = section.required("published")?;
        let own = ["extra-info", "identity-ed25519", "published"];
        let ends = ["router-sig-ed25519", "router-signature"];
        let statistics = (section.items.iter())
            .filter(|item| !own.contains(&item.keyword) && !ends.contains(&item.keyword))
            .filter_map(|item| text.get(item.start..item.line_end))
            .map(|line| line.trim_end_matches('\n').to_owned());
        signatures.verify_ed25519(&[])?;
        let text = text
            .get(head.start..signatures.end)
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            digest: ExtraInfoDigest {
                sha1: signatures.sha1,
                sha256: Some(digest::sha256(text.as_bytes())),
            },
            nickname: nickname.ok_or(DescriptorError::BadNickname)?.to_owned(),
            identity: head.arg_as(1)?,
            ed25519: signatures.master,
            published: published.timestamp(0)?,
            statistics: statistics.collect(),
            text,
            signatures,
        })
    }

    /// Checks that it is the document that a descriptor announces, and its RSA signature.
    pub fn check_against(&self, descriptor: &ServerDescriptor) -> Result<(), ExtraInfoMismatch> {
        let is_same_relay = self.identity == descriptor.identity
            && self.nickname == descriptor.nickname
            && self.signatures.cert_bytes == descriptor.identity_cert;
        if !is_same_relay {
            return Err(ExtraInfoMismatch::OtherRelay);
        }
        let announced = descriptor
            .extra_info_digest
            .ok_or(ExtraInfoMismatch::OtherDigest)?;
        let is_announced = announced.sha1 == self.digest.sha1
            && (announced.sha256.is_none() || announced.sha256 == self.digest.sha256);
        if !is_announced {
            return Err(ExtraInfoMismatch::OtherDigest);
        }
        if self.published != descriptor.published {
            return Err(ExtraInfoMismatch::OtherTime);
        }
        (self.signatures.verify_rsa(&descriptor.identity_key))
            .map_err(|_| ExtraInfoMismatch::BadSignature)
    }

    /// Writes and signs a document. `statistics` are lines without newlines.
    pub fn build(
        nickname: &str,
        published: SystemTime,
        statistics: &[String],
        keys: &DescriptorKeys<'_>,
    ) -> Result<String, BuildError> {
        keys.master()?;
        if !is_nickname(nickname) {
            return Err(BuildError::BadLine("nickname"));
        }
        let mut text = format!(
            "extra-info {nickname} {}\nidentity-ed25519\n{}published {}\n",
            keys.identity.public().id(),
            pem::encode(pem::ED25519_CERT, keys.signing_cert),
            timestamp::encode(published),
        );
        for line in statistics {
            if line.is_empty() || line.contains(char::is_control) {
                return Err(BuildError::BadLine("statistics"));
            }
            text.push_str(line);
            text.push('\n');
        }
        append_signatures(&mut text, keys.signing, keys.identity);
        if text.len() > EXTRA_INFO_LIMITS.bytes_max {
            return Err(BuildError::TooLong);
        }
        Ok(text)
    }
}

/// Cuts a text of several documents, as `/tor/extra/…` serves them.
pub fn split_extra_infos(text: &str) -> impl Iterator<Item = &str> {
    split_documents(text, &["extra-info"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::split_descriptors;
    use crate::descriptor::tests::{KEYS, fields, now};
    use proptest::prelude::*;
    use std::time::Duration;

    const TOR_DESCRIPTORS: &str = include_str!("../../../tests/vectors/netdoc/tor-descriptors.txt");
    const TOR_EXTRA_INFOS: &str = include_str!("../../../tests/vectors/netdoc/tor-extra-infos.txt");

    #[test]
    fn documents_of_tor_are_read() {
        let descriptors: Vec<_> = split_descriptors(TOR_DESCRIPTORS)
            .map(|text| ServerDescriptor::parse(text).unwrap())
            .collect();
        let mut count = 0;
        for (text, descriptor) in split_extra_infos(TOR_EXTRA_INFOS).zip(&descriptors) {
            let extra_info = ExtraInfo::parse(text).unwrap();
            assert_eq!(extra_info.text, text);
            assert_eq!(extra_info.check_against(descriptor), Ok(()));
            assert_eq!(extra_info.statistics.len(), 2);
            count += 1;
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn what_is_built_belongs_to_its_descriptor() {
        let keys = KEYS.borrowed();
        let lines = ["dirreq-v3-reqs us=8".to_owned(), "x-own 1".to_owned()];
        let text = ExtraInfo::build("cepa1", now(), &lines, &keys).unwrap();
        let extra_info = ExtraInfo::parse(&text).unwrap();
        assert_eq!(extra_info.statistics, lines);
        let mut fields = fields();
        fields.extra_info_digest = Some(extra_info.digest);
        let check = |fields: &crate::descriptor::DescriptorFields| {
            let descriptor = ServerDescriptor::parse(&fields.build(&keys).unwrap()).unwrap();
            extra_info.check_against(&descriptor)
        };
        assert_eq!(check(&fields), Ok(()));
        fields.published += Duration::from_secs(1);
        assert_eq!(check(&fields), Err(ExtraInfoMismatch::OtherTime));
        fields.extra_info_digest = None;
        assert_eq!(check(&fields), Err(ExtraInfoMismatch::OtherDigest));
        fields.nickname = "cepa2".into();
        assert_eq!(check(&fields), Err(ExtraInfoMismatch::OtherRelay));
        let two_lines = ["a\nb".to_owned()];
        assert!(ExtraInfo::build("cepa1", now(), &two_lines, &keys).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_is_refused(at in 0..800usize, byte in 0x21u8..0x7f) {
            let text = split_extra_infos(TOR_EXTRA_INFOS).next().unwrap();
            let mut bytes = text.as_bytes().to_vec();
            prop_assume!(at < bytes.len() && bytes[at] != byte);
            bytes[at] = byte;
            // The spare bits of an Ed25519 signature's last letter are covered by the RSA signature
            // alone, which only the descriptor's key can check.
            let descriptor = split_descriptors(TOR_DESCRIPTORS).next().unwrap();
            let descriptor = ServerDescriptor::parse(descriptor).unwrap();
            let is_taken = ExtraInfo::parse(std::str::from_utf8(&bytes).unwrap())
                .is_ok_and(|extra_info| extra_info.check_against(&descriptor).is_ok());
            prop_assert!(!is_taken || at >= text.find("router-signature").unwrap());
        }

        #[test]
        fn truncation_is_refused(len in 0..800usize) {
            let text = split_extra_infos(TOR_EXTRA_INFOS).next().unwrap();
            prop_assume!(len < text.len());
            prop_assert!(ExtraInfo::parse(&text[..len]).is_err());
        }
    }
}
