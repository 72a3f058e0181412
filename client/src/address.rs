//! `host:port`, and lists of it.

use std::fmt;

use crate::error::ClientError;

/// Kafka's port, used where an address names none.
const DEFAULT_PORT: u16 = 9092;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// An address of two known parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Name or number of the host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads `host`, `host:port` or `[v6]:port`; a scheme such as `PLAINTEXT://` before it is accepted.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let invalid = || ClientError::InvalidAddress { address: text.to_owned() };
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or_else(invalid)?;
                (host, after.strip_prefix(':'))
            }
            // More than one colon and no brackets: a bare IPv6 address.
            None if rest.matches(':').count() > 1 => (rest, None),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(digits) => digits.parse().map_err(|_| invalid())?,
            None => DEFAULT_PORT,
        };
        let is_odd = |c: char| c.is_whitespace() || c == '/' || c == ',';
        if host.is_empty() || host.contains(is_odd) || port == 0 {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Reads a list separated by commas.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ClientError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let addresses = entries.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(ClientError::InvalidAddress { address: text.to_owned() });
        }
        Ok(addresses)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_ipv6_are_told_apart() {
        for (text, shown) in [
            ("localhost", "localhost:9092"),
            ("10.0.0.1:19092", "10.0.0.1:19092"),
            ("[::1]:9093", "[::1]:9093"),
            ("::1", "[::1]:9092"),
            ("PLAINTEXT://broker-1:9094", "broker-1:9094"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_named_in_the_error() {
        for text in ["", "host:", "host:99999", "host:0", ":9092", "[::1", "a b:1", "http://host:80/path"] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
            assert!(error.had_no_effect() && !error.is_retriable());
        }
    }

    #[test]
    fn a_list_may_have_blanks_but_not_be_empty() {
        assert_eq!(Address::parse_list(" a:1, b ,").unwrap().len(), 2);
        assert!(Address::parse_list(" , ").is_err());
    }
}
