//! authcert
