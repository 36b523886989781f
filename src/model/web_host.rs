//! A host and perhaps a port, as the header Host of HTTP and the configuration write them.

use std::net::Ipv6Addr;

/// A host as a request names it, in one form: lower case, without the dot at its end, an IPv6 address as it is written shortest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebHost {
    /// A name, or an address without brackets.
    pub host: String,
    /// `None` = none is named.
    pub port: Option<u16>,
}

impl WebHost {
    /// `None` if it is none (RFC 9110, 7.2).
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').and_then(|(host, rest)| match rest {
                "" => Some((host, "")),
                rest => Some((host, rest.strip_prefix(':')?)),
            })?,
            None if text.parse::<Ipv6Addr>().is_ok() => (text, ""),
            None => text.rsplit_once(':').unwrap_or((text, "")),
        };
        let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|_| is_digits)?) };
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) if text.starts_with('[') => return None,
            Err(_) => host.strip_suffix('.').unwrap_or(host).to_lowercase(),
        };
        let is_host = !host.is_empty() && !host.contains(['@', '/', ' ', '[', ']']);
        is_host.then_some(Self { host, port })
    }

    /// Whether a request that asks for `asked` asks for this one. Browsers leave the usual port out, and a proxy has its own.
    pub fn is(&self, asked: &Self) -> bool {
        let is_port = match (self.port, asked.port) {
            (None, _) | (Some(80 | 443), None) => true,
            (Some(ours), asked) => asked == Some(ours),
        };
        self.host == asked.host && is_port
    }
}
