//! What a vote claims to be, before it is read: whose it is, for when, and whether he signed it.
//!
//! A vote has megabytes, and anybody may send one. Its head names the author with his certificate
//! within the first [`CLAIM_LEN_MAX`] bytes, and the signature at its end is over a mere SHA-1:
//! both cost little beside reading the entries, which is done only where both hold. What is said
//! here is said again by [`super::VoteText`], which reads all of it strictly.

use std::time::SystemTime;

use cepa_crypto::{RsaId, digest};

use super::VOTE_BYTES_MAX;
use crate::authcert::AuthCert;
use crate::consensus::{DirectorySignature, StatusError, missing};
use crate::item::{Items, Limits};
use crate::timestamp;

/// How far into a vote its author's certificate ends at the latest: in front of it stand lines of
/// bounded length, of which the parameters and the commitments of 128 authorities are the longest.
pub const CLAIM_LEN_MAX: usize = 128 << 10;

const START: &str = "\ndir-key-certificate-version ";
const CERTIFICATION: &str = "\ndir-key-certification\n";
const END: &str = "-----END SIGNATURE-----\n";
const SIGNATURE: &str = "\ndirectory-signature ";

/// The head of a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteClaim {
    /// The certificate of whom it says to be from, verified.
    pub certificate: AuthCert,
    /// When the consensus that is voted on is to begin.
    pub valid_after: SystemTime,
}

impl VoteClaim {
    /// Reads the beginning of a vote; `None` if more of it is needed.
    ///
    /// # Errors
    /// [`StatusError`] if it is none, or has no certificate where votes have it.
    pub fn read(text: &str) -> Result<Option<Self>, StatusError> {
        const KIND: &str = "network-status-version 3";
        if !text.starts_with(KIND.get(..text.len()).unwrap_or(KIND)) {
            return Err(StatusError::Kind);
        }
        let bounded = text.get(..CLAIM_LEN_MAX).unwrap_or(text);
        let Some((start, end)) = certificate(bounded) else {
            return match bounded.len() < text.len() || text.len() >= CLAIM_LEN_MAX {
                true => Err(missing("dir-key-certificate-version")),
                false => Ok(None),
            };
        };
        let (head, cert) = (bounded.get(..start), bounded.get(start..end));
        let mut lines = head.unwrap_or_default().lines();
        let valid_after = lines.find_map(|line| line.strip_prefix("valid-after "));
        let valid_after = valid_after.and_then(|time| timestamp::parse(time.trim()).ok());
        Ok(Some(Self {
            certificate: AuthCert::parse(cert.unwrap_or_default())
                .map_err(|_| StatusError::Certificate)?,
            valid_after: valid_after.ok_or_else(|| missing("valid-after"))?,
        }))
    }

    /// The v3 identity of whom it says to be from.
    pub fn author(&self) -> RsaId {
        self.certificate.identity
    }

    /// The digest of the whole vote that begins so, if the author has signed it, with a
    /// certificate that has not expired at `now`.
    pub fn verify(&self, text: &str, now: SystemTime) -> Option<[u8; 20]> {
        const LIMITS: Limits = Limits {
            bytes_max: VOTE_BYTES_MAX,
            items_max: 1,
        };
        let at = text.rfind(SIGNATURE)?;
        let digest = digest::sha1(text.as_bytes().get(..at + SIGNATURE.len())?);
        let item = Items::new(text.get(at + 1..)?, LIMITS).ok()?.next()?.ok()?;
        let signature = DirectorySignature::parse(&item).ok()??;
        let is_good =
            now <= self.certificate.expires && signature.verifies(&digest, &self.certificate);
        is_good.then_some(digest)
    }
}

/// Where the certificate stands, once it is there whole.
fn certificate(text: &str) -> Option<(usize, usize)> {
    let start = text.find(START)? + 1;
    let rest = text.get(start..)?;
    let last = rest.find(CERTIFICATION)? + CERTIFICATION.len();
    let end = last + rest.get(last..)?.find(END)? + END.len();
    Some((start, start + end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vote::VoteText;

    const VOTE: &str = include_str!(concat!(
        "../../../../tests/vectors/netdoc/consensus/",
        "vote-auth0"
    ));

    fn time(text: &str) -> SystemTime {
        timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_vote_says_early_whose_it_is() {
        let whole = VoteText::parse(VOTE).unwrap();
        let (_, end) = certificate(VOTE).unwrap();
        for len in (0..end).step_by(7).chain([end - 1]) {
            let claim = VoteClaim::read(&VOTE[..len]).unwrap();
            assert_eq!(claim, None, "at {len}");
        }
        let claim = VoteClaim::read(&VOTE[..end]).unwrap().unwrap();
        assert_eq!(claim.author(), whole.vote().author());
        assert_eq!(claim.valid_after, whole.vote().lifetime.valid_after);
        let now = time("2026-11-21 03:17:30");
        assert_eq!(claim.verify(VOTE, now), Some(*whole.digest()));
        assert_eq!(claim.verify(VOTE, time("2036-11-21 03:17:30")), None);
        let forged = VOTE.replacen("w Bandwidth=", "w Bandwidth=1", 1);
        assert_eq!(claim.verify(&forged, now), None);
        assert_eq!(claim.verify(&VOTE[..VOTE.len() - 30], now), None);
    }

    #[test]
    fn what_is_no_vote_is_known_soon() {
        assert_eq!(
            VoteClaim::read("network-status-version 2"),
            Err(StatusError::Kind)
        );
        assert_eq!(VoteClaim::read("x"), Err(StatusError::Kind));
        let endless = "network-status-version 3\n".repeat(CLAIM_LEN_MAX / 25 + 1);
        assert!(VoteClaim::read(&endless).is_err());
        let wrong = VOTE.replacen("fingerprint ", "fingerprint 0", 1);
        assert_eq!(VoteClaim::read(&wrong), Err(StatusError::Certificate));
    }
}
