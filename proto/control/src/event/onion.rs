//! HS_DESC and HS_DESC_CONTENT (control-spec 4.1.25, 4.1.26), of version 3.

use cepa_crypto::encoding::hex_upper;
use cepa_crypto::onion::OnionAddress;

use super::{LongName, push_field};
use crate::keyword::keywords;
use crate::text::service_id;

const UNKNOWN: &str = "UNKNOWN";
const NO_AUTH: &str = "NO_AUTH";

keywords! {
    /// What happens to a descriptor.
    pub enum HsDescAction {
        Requested = "REQUESTED",
        Upload = "UPLOAD",
        Received = "RECEIVED",
        Uploaded = "UPLOADED",
        Failed = "FAILED",
        Created = "CREATED",
    }
}

keywords! {
    /// Why a fetch or an upload failed.
    pub enum HsDescReason {
        BadDesc = "BAD_DESC",
        QueryRejected = "QUERY_REJECTED",
        UploadRejected = "UPLOAD_REJECTED",
        NotFound = "NOT_FOUND",
        Unexpected = "UNEXPECTED",
        QueryNoHsDir = "QUERY_NO_HSDIR",
        QueryRateLimited = "QUERY_RATE_LIMITED",
    }
}

/// HS_DESC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsDescEvent {
    /// What happens.
    pub action: HsDescAction,
    /// Whether it is an upload, which `tor` tells without the kind of authorization.
    pub is_upload: bool,
    /// The service.
    pub address: Option<OnionAddress>,
    /// Where; `None` if there is no such place.
    pub hsdir: Option<LongName>,
    /// The blinded key, by which the place keeps it.
    pub blinded_key: Option<[u8; 32]>,
    /// Why it failed.
    pub reason: Option<HsDescReason>,
    /// The place on the hash ring.
    pub hsdir_index: Option<[u8; 32]>,
}

fn address(address: Option<&OnionAddress>) -> String {
    address.map_or_else(|| UNKNOWN.to_owned(), service_id)
}

fn hsdir(hsdir: Option<&LongName>) -> String {
    hsdir.map_or_else(|| UNKNOWN.to_owned(), ToString::to_string)
}

fn descriptor_id(blinded_key: &[u8; 32]) -> String {
    cepa_crypto::encoding::base64_unpadded(blinded_key)
}

impl std::fmt::Display for HsDescEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let auth = if self.is_upload { UNKNOWN } else { NO_AUTH };
        let mut line = format!(
            "{} {} {auth} {}",
            self.action,
            address(self.address.as_ref()),
            hsdir(self.hsdir.as_ref())
        );
        if let Some(key) = &self.blinded_key {
            line.push(' ');
            line.push_str(&descriptor_id(key));
        }
        push_field(&mut line, "REASON", self.reason);
        push_field(
            &mut line,
            "HSDIR_INDEX",
            self.hsdir_index.map(|index| hex_upper(&index)),
        );
        f.write_str(&line)
    }
}

/// HS_DESC_CONTENT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HsDescContent {
    /// The service.
    pub address: Option<OnionAddress>,
    /// The blinded key, by which the place keeps it.
    pub blinded_key: Option<[u8; 32]>,
    /// Where it was fetched.
    pub hsdir: Option<LongName>,
    /// The descriptor; empty if the fetch failed.
    pub descriptor: String,
}

impl std::fmt::Display for HsDescContent {
    /// The line before the descriptor.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self
            .blinded_key
            .as_ref()
            .map_or_else(|| UNKNOWN.to_owned(), descriptor_id);
        let hsdir = hsdir(self.hsdir.as_ref());
        write!(f, "{} {id} {hsdir}", address(self.address.as_ref()))
    }
}
