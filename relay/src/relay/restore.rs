//! What a relay takes from its earlier run: documents that are still good.

use std::sync::Arc;

use cepa_dir::DirDocument;
use cepa_netdoc::authcert::AuthCert;
use cepa_netdoc::consensus::ConsensusText;
use cepa_netdoc::descriptor::ServerDescriptor;
use cepa_netdoc::extrainfo::ExtraInfo;
use cepa_netdoc::microdesc::Microdesc;
use cepa_wire::Now;
use tracing::{info, warn};

use super::Relay;

/// Texts of documents that were kept from an earlier run.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Authority certificates.
    pub certificates: Vec<String>,
    /// Consensuses, at most one of a flavour.
    pub consensuses: Vec<String>,
    /// Microdescriptors.
    pub microdescs: Vec<String>,
    /// Server descriptors.
    pub server_descs: Vec<String>,
    /// Extra-infos.
    pub extra_infos: Vec<String>,
    /// What was used of what it may carry.
    pub accounting: Option<String>,
}

impl Relay {
    /// Takes what an earlier run kept; what is damaged or has ended is left out. To be called
    /// before anything else.
    pub fn restore(&mut self, kept: &Restored, now: Now) {
        let certs = kept
            .certificates
            .iter()
            .filter_map(|text| AuthCert::parse(text).ok());
        let certs: Vec<AuthCert> = certs.collect();
        self.download.restore_certificates(certs.clone(), now);
        for cert in certs {
            self.serve(DirDocument::Certificate(Arc::new(cert)));
        }
        for text in &kept.consensuses {
            match ConsensusText::parse(text.as_str()) {
                Ok(text) => {
                    if let Err(refusal) = self.offer_consensus(text, now) {
                        info!(%refusal, "a consensus that was kept is not used");
                    }
                }
                Err(error) => warn!(%error, "a consensus that was kept is damaged"),
            }
        }
        let mut microdescs = Vec::new();
        for text in &kept.microdescs {
            let Ok(microdesc) = Microdesc::parse(text) else {
                continue;
            };
            self.serve(DirDocument::Microdesc(
                microdesc.digest,
                text.as_str().into(),
            ));
            microdescs.push(microdesc);
        }
        self.download.restore_microdescs(microdescs);
        let mut digests = Vec::new();
        for text in &kept.server_descs {
            let Ok(desc) = ServerDescriptor::parse(text) else {
                continue;
            };
            digests.push(desc.digest);
            self.serve(DirDocument::ServerDesc((&desc).into()));
        }
        self.download.restore_server_descs(digests);
        for text in &kept.extra_infos {
            let Ok(info) = ExtraInfo::parse(text) else {
                continue;
            };
            self.serve(DirDocument::ExtraInfo((&info).into()));
        }
        self.restore_accounting(kept.accounting.as_deref(), now);
        self.tell_switches_of_relays();
        self.advance(now);
    }
}
