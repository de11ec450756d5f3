//! The web site behind which a bridge of WebTunnel is: what the arguments `url` and `servername` of
//! its line say.

use http::Uri;
use http::uri::Scheme;

use crate::arguments::Arguments;

/// The place of a bridge: a path of a web site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Whether the site is reached over TLS (`https`).
    pub is_tls: bool,
    /// Its name or address; an IPv6 address without brackets.
    pub host: String,
    /// Its port; not 0.
    pub port: u16,
    /// The path; it begins with a slash.
    pub path: String,
    /// The name that the site's certificate is to have.
    pub server_name: String,
}

/// Why arguments name no site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// There is no `url`.
    #[error("url=https://HOST/PATH is missing")]
    NoUrl,
    /// It is not one of a web site.
    #[error("url= is not https://HOST/PATH")]
    Url,
    /// `servername` cannot be the name of a host.
    #[error("servername= is no name of a host")]
    ServerName,
}

impl Site {
    /// The site that the arguments of a line name: `url`, and `servername` if the certificate has
    /// another name than the host.
    pub fn of(arguments: &Arguments) -> Result<Self, SiteError> {
        let value = |wanted| {
            let mut pairs = arguments.pairs();
            pairs.find_map(|(key, value)| (key == wanted).then_some(value))
        };
        let url = value("url").ok_or(SiteError::NoUrl)?;
        let url: Uri = url.parse().map_err(|_| SiteError::Url)?;
        let is_tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(SiteError::Url),
        };
        let authority = url.authority().ok_or(SiteError::Url)?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(SiteError::Url);
        }
        let port = match authority.port_u16() {
            Some(0) => return Err(SiteError::Url),
            Some(port) => port,
            // A colon without a number behind it, or with one that is none.
            None if authority.as_str().len() > host.len() => return Err(SiteError::Url),
            None if is_tls => 443,
            None => 80,
        };
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let server_name = value("servername").unwrap_or(host);
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        if server_name.is_empty() || !server_name.bytes().all(is_part) {
            return Err(SiteError::ServerName);
        }
        Ok(Site {
            is_tls,
            host: host.to_owned(),
            port,
            path: url.path().to_owned(),
            server_name: server_name.to_owned(),
        })
    }

    /// What the header `Host` says.
    #[must_use]
    pub fn header(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Site, SiteError> {
        let mut arguments = Arguments::default();
        for (key, value) in pairs {
            arguments.push(key, value).unwrap();
        }
        Site::of(&arguments)
    }

    #[test]
    fn sites_are_read() {
        let site = read(&[("url", "https://a.example/secret?x"), ("ver", "0.0.1")]).unwrap();
        assert_eq!((site.port, &*site.path), (443, "/secret"));
        assert_eq!(site.header(), "a.example");
        let site = read(&[("url", "http://[::1]:8080"), ("servername", "b.example")]).unwrap();
        assert_eq!((&*site.host, &*site.path), ("::1", "/"));
        assert_eq!(site.header(), "[::1]:8080");
        assert_eq!(site.server_name, "b.example");
        assert_eq!(read(&[]), Err(SiteError::NoUrl));
        for wrong in [
            "",
            "/secret",
            "a.example/secret",
            "ftp://a.example/",
            "https://",
            "https:///secret",
            "https://user@a.example/",
            "https://a.example:0/",
            "https://a.example:/",
            "https://a.example:99999/",
        ] {
            assert_eq!(read(&[("url", wrong)]), Err(SiteError::Url), "{wrong}");
        }
        for wrong in ["", "a_b", "a/b"] {
            let site = read(&[("url", "https://a.example/"), ("servername", wrong)]);
            assert_eq!(site, Err(SiteError::ServerName), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(url in "(https?://)?[!-~]{0,60}", name in "[!-~]{0,20}") {
            if let Ok(site) = read(&[("url", &url), ("servername", &name)]) {
                prop_assert!(site.path.starts_with('/') && site.port != 0);
            }
        }
    }
}
