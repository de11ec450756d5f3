//! Descriptors of onion services on their way (control-spec 4.1.25, 4.1.26).

use cepa_client::Client;
use cepa_client::status::{DescriptorChange, DescriptorFailure, DescriptorTransfer};
use cepa_control::event::{
    Event, HsDescAction, HsDescContent, HsDescEvent, HsDescReason, LongName,
};

/// HS_DESC and, at the end of a fetch, HS_DESC_CONTENT, which is empty if there is no descriptor.
pub(super) fn events(
    change: DescriptorChange,
    transfer: &DescriptorTransfer,
    client: &Client,
) -> Vec<Event> {
    let is_upload = transfer.is_upload;
    let hsdir = transfer.hsdir.map(|id| LongName {
        id,
        nickname: client.nickname(&id).map(str::to_owned),
    });
    let action = match (change, is_upload) {
        (DescriptorChange::Asked, true) => HsDescAction::Upload,
        (DescriptorChange::Asked, false) => HsDescAction::Requested,
        (DescriptorChange::Done, true) => HsDescAction::Uploaded,
        (DescriptorChange::Done, false) => HsDescAction::Received,
        (DescriptorChange::Failed(_), _) => HsDescAction::Failed,
    };
    let reason = match change {
        DescriptorChange::Failed(failure) => Some(reason(failure)),
        DescriptorChange::Asked | DescriptorChange::Done => None,
    };
    let mut events = vec![Event::HsDesc(HsDescEvent {
        action,
        is_upload,
        address: transfer.address,
        hsdir: hsdir.clone(),
        // The end of an upload is told without, as by `tor`.
        blinded_key: transfer
            .blinded
            .filter(|_| !is_upload || change == DescriptorChange::Asked),
        reason,
        hsdir_index: None,
    })];
    if !is_upload && change != DescriptorChange::Asked {
        let is_there = change == DescriptorChange::Done;
        events.push(Event::HsDescContent(HsDescContent {
            address: transfer.address,
            blinded_key: transfer.blinded,
            hsdir,
            descriptor: match is_there {
                true => transfer.text.clone(),
                false => String::new(),
            },
        }));
    }
    events
}

fn reason(failure: DescriptorFailure) -> HsDescReason {
    match failure {
        DescriptorFailure::NotFound => HsDescReason::NotFound,
        DescriptorFailure::Rejected => HsDescReason::UploadRejected,
        DescriptorFailure::Bad => HsDescReason::BadDesc,
        DescriptorFailure::Broken => HsDescReason::Unexpected,
    }
}
