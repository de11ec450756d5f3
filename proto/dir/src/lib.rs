//! The directory protocol without its sockets (dir-spec 4 to 6).
//!
//! [`request`] is what may be asked and how it stands in HTTP, [`encoding`] how bodies are
//! compressed, [`network`] the authorities that a network rests upon, [`fetch`] what to ask for
//! next and what to believe of the replies, [`netview`] the relays that paths are made of, with
//! their weights, [`geoip`] which country an address is in, [`store`] what a directory serves,
//! [`hsring`] where the descriptors of onion services are. No I/O, no clock: the shell carries the
//! bytes, the roles decide.

pub mod encoding;
pub mod fetch;
pub mod geoip;
pub mod hsring;
pub mod netview;
pub mod network;
pub mod request;
pub mod store;

pub use cepa_netdoc::consensus::Flavour;
pub use fetch::DirectoryDownload;
pub use geoip::{Country, GeoIp, GeoIpError};
pub use hsring::HsRing;
pub use netview::{NetworkView, Relay, Role};
pub use network::{DirAuthority, NetworkFile};
pub use request::DirRequest;
pub use store::{Asker, DirDocument, DirStore, Found, Reply, RouterDocument};
