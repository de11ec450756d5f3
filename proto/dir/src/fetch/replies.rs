//! What is asked of directories, and what is made of their replies.

use super::slot::{CANDIDATE_AGE_MAX, Candidate};
use super::{
    AuthCert, BTreeSet, CERTS_ASKED_MAX, CERTS_PER_AUTHORITY_MAX, CertQuery, Command,
    ConsensusText, DirRequest, DirectoryDownload, ExtraInfo, FetchId, Flavour, IdPrefix, Microdesc,
    NetworkView, Now, Origin, REPLY_CERTS_MAX, Refusal, Reply, Rng, RsaId, SPARE_CERT_TRIES_MAX,
    ServerDescriptor, When, split_certs, split_descriptors, split_extra_infos, split_microdescs,
};

impl DirectoryDownload {
    /// Asks somebody, drawn at random.
    pub(super) fn fetch(&mut self, request: DirRequest, rng: &mut Rng) -> FetchId {
        let id = FetchId(self.next_id);
        self.next_id += 1;
        let count = u64::try_from(self.network.authorities.len())
            .unwrap_or(1)
            .max(1);
        let one = usize::try_from(rng.below(count)).unwrap_or_default();
        let from = match self.interest.is_cache {
            true => Origin::DirPort(one),
            false => Origin::BeginDir { fallback: one },
        };
        self.commands
            .push_back(Command::Fetch { id, request, from });
        id
    }

    pub(super) fn ask_consensus(&mut self, at: usize, now: Now, rng: &mut Rng) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let (flavour, over) = (slot.flavour, slot.expire(now));
        for from in over {
            self.commands
                .push_back(Command::Refused(flavour, Refusal::Certificates));
            self.commands.extend(from.map(Command::Useless));
        }
        let Some(slot) = self.slots.get(at).filter(|slot| slot.is_due(now)) else {
            return;
        };
        let (flavour, diff_from) = (slot.flavour, slot.diff_bases());
        let signers = self
            .network
            .v3_identities()
            .iter()
            .map(IdPrefix::short)
            .collect();
        let id = self.fetch(
            DirRequest::Consensus {
                flavour,
                signers,
                diff_from,
            },
            rng,
        );
        if let Some(slot) = self.slots.get_mut(at) {
            slot.in_flight = Some(id);
        }
    }

    pub(super) fn wants_certificates(&self) -> bool {
        let candidates = self.slots.iter().flat_map(|slot| &slot.candidates);
        let is_any = !self.spare_certs.is_empty() || candidates.count() > 0;
        is_any && self.certs_in_flight.is_none()
    }

    pub(super) fn ask_certificates(&mut self, now: Now, rng: &mut Rng) {
        if !self.wants_certificates() || self.certs_retry.next > now.mono {
            return;
        }
        let candidates = self.slots.iter().flat_map(|slot| &slot.candidates);
        let missing = candidates.flat_map(|one| one.missing.iter().copied());
        let pairs: BTreeSet<_> = missing.chain(self.spare_certs.iter().copied()).collect();
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        if pairs.len() > CERTS_ASKED_MAX {
            // So that each has its turn, whoever brought the others.
            let start = rng.below(u64::try_from(pairs.len()).unwrap_or(1));
            pairs.rotate_left(usize::try_from(start).unwrap_or_default());
            pairs.truncate(CERTS_ASKED_MAX);
        }
        let id = self.fetch(DirRequest::Certificates(CertQuery::Pairs(pairs)), rng);
        self.certs_in_flight = Some(id);
    }

    pub(super) fn consensus_reply(
        &mut self,
        at: usize,
        id: FetchId,
        reply: &Reply,
        now: Now,
        rng: &mut Rng,
    ) {
        let is_testing = self.network.is_testing;
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let flavour = slot.flavour;
        slot.in_flight = None;
        let read = match reply.status {
            200 => slot.read(reply.text(), now, is_testing),
            304 => Err(Refusal::NotNewer),
            status => Err(Refusal::NotServed(status)),
        };
        slot.is_whole |= matches!(read, Err(Refusal::Diff(_)));
        let judged = read.and_then(|text| self.judge(at, text, Some(id), now, rng));
        if let Err(refusal) = judged {
            if let Some(slot) = self.slots.get_mut(at) {
                slot.retry.fail(now, rng);
            }
            // Who has none says so, and another is asked anyway.
            let has_none = matches!(refusal, Refusal::NotServed(_));
            self.commands.push_back(Command::Refused(flavour, refusal));
            self.commands
                .extend((!has_none).then_some(Command::Useless(id)));
        }
    }

    /// Accepts a consensus if enough authorities signed it; lets it wait if certificates that are
    /// not at hand may show that they did.
    pub(super) fn judge(
        &mut self,
        at: usize,
        text: ConsensusText,
        from: Option<FetchId>,
        now: Now,
        rng: &mut Rng,
    ) -> Result<(), Refusal> {
        let trusted = self.network.v3_identities();
        let signers = text.signers(&self.certs, &trusted, now.wall);
        let missing = one_each(&signers.missing_certs);
        if signers.is_majority(trusted.len()) {
            (self.spare_certs, self.spare_cert_tries) = (missing, 0);
            // Old by our clock: another may have a newer one.
            let has_ended = text.consensus().lifetime.valid_until < now.wall;
            let stale = from.filter(|_| has_ended);
            self.commands.extend(stale.map(Command::Useless));
            self.accept(at, text, from.is_some(), now, rng);
            return Ok(());
        }
        if !signers.could_be_majority(trusted.len()) {
            return Err(Refusal::Signatures(signers.good.len(), trusted.len()));
        }
        let candidate = Candidate {
            text,
            from,
            missing,
            until: now.mono + CANDIDATE_AGE_MAX,
        };
        let is_testing = self.network.is_testing;
        let slot = self.slots.get_mut(at);
        match slot.is_some_and(|slot| slot.wait(candidate, is_testing, now)) {
            true => {
                self.certs_retry.succeed(now.mono);
                Ok(())
            }
            false => Err(Refusal::Certificates),
        }
    }

    fn accept(&mut self, at: usize, text: ConsensusText, is_answer: bool, now: Now, rng: &mut Rng) {
        let is_testing = self.network.is_testing;
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        slot.accept(
            text.clone(),
            When {
                now,
                is_testing,
                is_answer,
                rng,
            },
        );
        match text.consensus().flavour {
            Flavour::Microdesc => self.accept_microdesc_consensus(&text, now),
            Flavour::Ns => self.accept_ns_consensus(&text, now),
        }
        self.commands.push_back(Command::Consensus(text));
    }

    fn accept_microdesc_consensus(&mut self, text: &ConsensusText, now: Now) {
        match &mut self.view {
            Some(view) => view.replace_consensus(text.clone()),
            None => {
                let view = NetworkView::new(text.clone()).testing(self.network.is_testing);
                self.view = Some(view);
            }
        }
        if let Some(view) = self.view.as_ref().filter(|_| self.interest.microdescs) {
            self.microdescs.replace(view.missing_microdescs(), now);
        }
    }

    fn accept_ns_consensus(&mut self, text: &ConsensusText, now: Now) {
        if !self.interest.server_descs {
            return;
        }
        let listed: BTreeSet<[u8; 20]> = text
            .consensus()
            .routers
            .iter()
            .map(|router| router.descriptor_digest)
            .collect();
        self.known_descs.retain(|digest| listed.contains(digest));
        self.server_descs
            .replace(listed.difference(&self.known_descs).copied(), now);
        // What nobody had while its relay was listed is not asked for for ever.
        self.extra_infos_of.retain(|_, desc| listed.contains(desc));
        let wanted = self.extra_infos_of.keys().copied();
        self.extra_infos.replace(wanted, now);
    }

    /// Keeps a certificate of a known authority, unless it has ended or newer ones are enough.
    pub(super) fn add_certificate(&mut self, cert: AuthCert, now: Now) -> bool {
        let id = cert.identity;
        if self.network.by_v3_identity(&id).is_none() || cert.expires < now.wall {
            return false;
        }
        let key = (id, cert.signing_key_digest);
        self.spare_certs.remove(&key);
        let digest = cert.digest;
        self.certs
            .retain(|held| (held.identity, held.signing_key_digest) != key);
        self.certs.push(cert);
        self.certs
            .sort_by_key(|held| std::cmp::Reverse(held.published));
        let mut of_author = 0;
        self.certs.retain(|held| {
            of_author += usize::from(held.identity == id);
            held.identity != id || of_author <= CERTS_PER_AUTHORITY_MAX
        });
        self.certs.iter().any(|held| held.digest == digest)
    }

    pub(super) fn certificates_reply(
        &mut self,
        id: FetchId,
        reply: &Reply,
        now: Now,
        rng: &mut Rng,
    ) {
        let mut added = Vec::new();
        for text in split_certs(reply.text()).take(REPLY_CERTS_MAX) {
            let Ok(cert) = AuthCert::parse(text) else {
                continue;
            };
            if self.add_certificate(cert.clone(), now) {
                added.push(cert);
            }
        }
        self.spare_cert_tries = self.spare_cert_tries.saturating_add(1);
        if self.spare_cert_tries >= SPARE_CERT_TRIES_MAX {
            self.spare_certs.clear();
        }
        match added.is_empty() {
            true => {
                self.certs_retry.fail(now, rng);
                self.commands.push_back(Command::Useless(id));
            }
            false => {
                self.certs_retry.succeed(now.mono);
                self.commands.push_back(Command::Certificates(added));
            }
        }
        for at in 0..self.slots.len() {
            self.judge_again(at, now, rng);
        }
    }

    /// Looks at what waits, after certificates have come or were not to be had.
    fn judge_again(&mut self, at: usize, now: Now, rng: &mut Rng) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let (flavour, trusted) = (slot.flavour, self.network.v3_identities());
        let mut waiting = std::mem::take(&mut slot.candidates);
        // The newest first, if more than one is confirmed.
        let lifetime = |one: &Candidate| one.text.consensus().lifetime.valid_after;
        let of = |one: &Candidate| one.text.signers(&self.certs, &trusted, now.wall);
        let good = waiting.iter().enumerate().rev();
        let good = good.filter(|(_, one)| of(one).is_majority(trusted.len()));
        let good = good.max_by_key(|(_, one)| lifetime(one));
        if let Some(one) = good.and_then(|(index, _)| waiting.get(index).cloned()) {
            // It is one of those that were checked when they came.
            let _ = self.judge(at, one.text, one.from, now, rng);
            return;
        }
        waiting.retain_mut(|one| {
            let signers = of(one);
            one.missing = one_each(&signers.missing_certs);
            let may_be = signers.could_be_majority(trusted.len());
            if !may_be {
                let refusal = Refusal::Signatures(signers.good.len(), trusted.len());
                self.commands.push_back(Command::Refused(flavour, refusal));
            }
            self.commands.extend(one.from.map(Command::Useless));
            may_be
        });
        if let Some(slot) = self.slots.get_mut(at) {
            slot.candidates = waiting;
            slot.end_patience(now, rng);
        }
    }

    /// Says so if a directory had less than half of what it was asked for.
    pub(super) fn note_found(&mut self, id: FetchId, found: usize, asked: usize) {
        if found * 2 < asked {
            self.commands.push_back(Command::Useless(id));
        }
    }

    pub(super) fn microdescs_reply(
        &mut self,
        asked: &[[u8; 32]],
        reply: &Reply,
        now: Now,
        rng: &mut Rng,
    ) -> usize {
        let mut found = Vec::new();
        for text in split_microdescs(reply.text()).take(asked.len()) {
            if let Ok(microdesc) = Microdesc::parse(text)
                && self.microdescs.remove(&microdesc.digest)
            {
                found.push((microdesc, text.to_owned()));
            }
        }
        self.microdescs.settle(!found.is_empty(), now, rng);
        if found.is_empty() {
            return 0;
        }
        let count = found.len();
        if let Some(view) = &mut self.view {
            view.add_microdescs(found.iter().map(|(microdesc, _)| microdesc.clone()));
        }
        self.commands.push_back(Command::Microdescs(found));
        count
    }

    pub(super) fn server_descs_reply(
        &mut self,
        asked: &[[u8; 20]],
        reply: &Reply,
        now: Now,
        rng: &mut Rng,
    ) -> usize {
        let mut found = Vec::new();
        for text in split_descriptors(reply.text()).take(asked.len()) {
            if let Ok(descriptor) = ServerDescriptor::parse(text)
                && self.server_descs.remove(&descriptor.digest)
            {
                self.known_descs.insert(descriptor.digest);
                if let Some(extra) = &descriptor.extra_info_digest
                    && self.interest.extra_infos
                {
                    self.extra_infos.insert(extra.sha1);
                    self.extra_infos_of.insert(extra.sha1, descriptor.digest);
                }
                found.push(descriptor);
            }
        }
        self.server_descs.settle(!found.is_empty(), now, rng);
        let count = found.len();
        if count > 0 {
            self.commands.push_back(Command::ServerDescs(found));
        }
        count
    }

    pub(super) fn extra_infos_reply(
        &mut self,
        asked: &[[u8; 20]],
        reply: &Reply,
        now: Now,
        rng: &mut Rng,
    ) -> usize {
        let mut found = Vec::new();
        for text in split_extra_infos(reply.text()).take(asked.len()) {
            if let Ok(extra_info) = ExtraInfo::parse(text)
                && self.extra_infos.remove(&extra_info.digest.sha1)
            {
                found.push(extra_info);
            }
        }
        for one in &found {
            self.extra_infos_of.remove(&one.digest.sha1);
        }
        self.extra_infos.settle(!found.is_empty(), now, rng);
        let count = found.len();
        if count > 0 {
            self.commands.push_back(Command::ExtraInfos(found));
        }
        count
    }
}

/// One key of each authority: a good consensus has no more, and a bad one asks for no more.
fn one_each(missing: &BTreeSet<(RsaId, RsaId)>) -> BTreeSet<(RsaId, RsaId)> {
    let mut seen = BTreeSet::new();
    let is_first = |pair: &&(RsaId, RsaId)| seen.insert(pair.0);
    missing.iter().filter(is_first).copied().collect()
}
