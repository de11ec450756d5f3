//! Every message that comes in a cell or a relay cell (tor-spec 4 to 7).

#![no_main]

use cepa_wire::Reader;
use cepa_wire::{
    auth, begin, certs, circuit_padding, connected, create, end, extend, linkspec, netinfo,
    padding, relay, resolve, sendme, versions, xon,
};

fn rng() -> cepa_crypto::Rng {
    cepa_crypto::Rng::from_seed([1; 32])
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = begin::Begin::read(data);
    let _ = connected::Connected::read(data);
    let _ = end::End::read(data);
    let _ = extend::Extend2::read(data);
    let _ = extend::Extended2::read(data);
    let _ = resolve::Resolve::read(data);
    let _ = resolve::Resolved::read(data);
    let _ = sendme::Sendme::read(data);
    let _ = xon::Xon::read(data);
    let _ = xon::Xoff::read(data);
    let _ = circuit_padding::NegotiateMachine::read(data);
    let _ = circuit_padding::MachineNegotiated::read(data);
    let _ = certs::Certs::read(data);
    let _ = auth::AuthChallenge::read(data);
    let _ = auth::Authenticate::read(data);
    let _ = versions::Versions::read(data).map(|versions| versions.highest_common(&[4, 5]));
    let _ = linkspec::LinkSpecifiers::read(&mut Reader::new(data));
    let mut payload = [0; 509];
    for (to, from) in payload.iter_mut().zip(data) {
        *to = *from;
    }
    let _ = relay::data(&payload);
    if let Ok(said) = relay::v1::read(&payload) {
        let mut again = payload;
        relay::v1::write(
            &mut again,
            said.command,
            said.stream_id,
            said.data,
            &mut rng(),
        )
        .expect("it was read");
        assert_eq!(relay::v1::read(&again), Ok(said));
    }
    let _ = netinfo::Netinfo::read(&payload);
    let _ = padding::PaddingNegotiate::read(&payload);
    let _ = create::Create2::read(&payload);
    let _ = create::Created2::read(&payload);
    let _ = create::CreateFast::read(&payload);
    let _ = create::CreatedFast::read(&payload);
});
