//! Settings by the names that they have in Kafka, for those who bring a configuration along.
//!
//! Client, producer and consumer each take the names that are theirs; what nobody took is an error, with a suggestion.
//! Settings that are written in Rust do not come through here: they have types.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::ClientBuilder;
use crate::backoff::Backoff;

/// At most so many changes of letters make a name a misspelling of another.
const MISSPELT_BY: usize = 4;

/// Names and values as Kafka's clients have them.
///
/// ```
/// use millstream_client::{Client, Properties};
///
/// let mut properties = Properties::parse(
///     "bootstrap.servers=127.0.0.1:9092\n\
///      request.timeout.ms=5000\n\
///      retry.backoff.m=100\n",
/// )?;
/// let builder = Client::builder_from(&mut properties)?;
/// // What nobody has taken is refused.
/// let error = properties.finish().unwrap_err().to_string();
/// assert!(error.contains("did you mean retry.backoff.ms?"), "{error}");
/// # Ok::<(), millstream_client::PropertyError>(())
/// ```
#[derive(Clone, Default)]
pub struct Properties {
    values: BTreeMap<String, String>,
    /// Names that somebody would have taken.
    known: Vec<&'static str>,
}

/// Why properties cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PropertyError {
    /// A line is none.
    #[error("line {line} is no property: write name=value")]
    Malformed {
        /// Its number, from 1.
        line: usize,
    },
    /// A value cannot be read.
    #[error("{name}={value} cannot be used: {expected} is needed")]
    Value {
        /// The name.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// Kafka's clients have it, and we do not.
    #[error("{name} has no counterpart here: {instead}")]
    Unsupported {
        /// The name.
        name: String,
        /// What to do in its place.
        instead: String,
    },
    /// Nobody knows the name.
    #[error("{name} is no setting of what was built{}", suggestion.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown {
        /// The name.
        name: String,
        /// A name that is spelt almost like it.
        suggestion: Option<String>,
    },
    /// A setting without which nothing can be built.
    #[error("{name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
}

impl Properties {
    /// Reads lines of `name=value`. Empty lines and those that begin with `#` or `!` say nothing; of a name that comes
    /// twice the last value holds.
    ///
    /// # Errors
    /// [`PropertyError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, PropertyError> {
        let mut properties = Self::default();
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let (name, value) =
                line.split_once(['=', ':']).ok_or(PropertyError::Malformed { line: number })?;
            properties.set(name.trim(), value.trim());
        }
        Ok(properties)
    }

    /// Sets one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Takes one out, as it is written.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.values.remove(name)
    }

    /// Takes one out, in a form that `read` makes of it.
    ///
    /// # Errors
    /// [`PropertyError::Value`], with `expected`.
    pub fn take_as<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, PropertyError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(PropertyError::Value { name: name.to_owned(), value, expected: expected.to_owned() }),
        }
    }

    /// Takes one out that is a time in milliseconds.
    ///
    /// # Errors
    /// [`PropertyError::Value`].
    pub fn take_ms(&mut self, name: &'static str) -> Result<Option<Duration>, PropertyError> {
        let read = |value: &str| value.parse().ok().map(Duration::from_millis);
        self.take_as(name, "a number of milliseconds", read)
    }

    /// Takes one out that is a number of bytes.
    ///
    /// # Errors
    /// [`PropertyError::Value`].
    pub fn take_bytes(&mut self, name: &'static str) -> Result<Option<usize>, PropertyError> {
        self.take_as(name, "a number of bytes", |value| value.parse().ok())
    }

    /// Takes one out that is `true` or `false`.
    ///
    /// # Errors
    /// [`PropertyError::Value`].
    pub fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>, PropertyError> {
        self.take_as(name, "true or false", |value| value.parse().ok())
    }

    /// Refuses those of these names that are there, each with what to do in its place. A name that ends in `.` stands for
    /// all that begin with it.
    ///
    /// # Errors
    /// [`PropertyError::Unsupported`].
    pub fn refuse(&self, names: &[(&str, &str)]) -> Result<(), PropertyError> {
        let is_meant = |name: &str, refused: &str| {
            name == refused || (refused.ends_with('.') && name.starts_with(refused))
        };
        for name in self.values.keys() {
            if let Some((_, instead)) = names.iter().find(|(refused, _)| is_meant(name, refused)) {
                let (name, instead) = (name.clone(), (*instead).to_owned());
                return Err(PropertyError::Unsupported { name, instead });
            }
        }
        Ok(())
    }

    /// Refuses what nobody has taken.
    ///
    /// # Errors
    /// [`PropertyError::Unknown`], with a name that is spelt almost like it if there is one.
    pub fn finish(self) -> Result<(), PropertyError> {
        let Some(name) = self.values.into_keys().next() else { return Ok(()) };
        let near = self.known.iter().map(|known| (strsim::levenshtein(known, &name), *known)).min();
        let suggestion =
            near.filter(|(distance, _)| *distance <= MISSPELT_BY).map(|(_, known)| known.to_owned());
        Err(PropertyError::Unknown { name, suggestion })
    }
}

/// Values may be secrets.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Properties").field(&self.values.keys()).finish()
    }
}

/// What a client of ours does otherwise.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("ssl.", "give the builder a transport that encrypts"),
    ("sasl.", "give the builder an authenticator"),
    ("metric.reporters", "install a recorder of the metrics crate"),
    ("metrics.", "install a recorder of the metrics crate"),
    ("enable.metrics.push", "metrics are not pushed to brokers"),
    ("send.buffer.bytes", "the operating system sizes its buffers"),
    ("receive.buffer.bytes", "the operating system sizes its buffers"),
    ("connections.max.idle.ms", "connections stay open while they are in use"),
    ("reconnect.backoff.ms", "retry.backoff.ms is for connections, too"),
    ("reconnect.backoff.max.ms", "retry.backoff.max.ms is for connections, too"),
    ("client.dns.lookup", "all addresses of a name are tried"),
    ("metadata.recovery.strategy", "the bootstrap addresses are always tried again"),
];

impl ClientBuilder {
    /// Behind `Client::builder_from`.
    pub(crate) fn from_properties(properties: &mut Properties) -> Result<Self, PropertyError> {
        const BOOTSTRAP: &str = "bootstrap.servers";
        let bootstrap = properties.take(BOOTSTRAP).ok_or(PropertyError::Missing { name: BOOTSTRAP })?;
        let mut builder = Self::new(&bootstrap);
        if let Some(protocol) = properties.take("security.protocol")
            && protocol != "PLAINTEXT"
        {
            let instead = "give the builder a transport that encrypts, or an authenticator".to_owned();
            return Err(PropertyError::Unsupported {
                name: format!("security.protocol={protocol}"),
                instead,
            });
        }
        properties.refuse(UNSUPPORTED)?;
        if let Some(id) = properties.take("client.id") {
            builder = builder.client_id(id);
        }
        if let Some(timeout) = properties.take_ms("request.timeout.ms")? {
            builder = builder.request_timeout(timeout);
        }
        if let Some(timeout) = properties.take_ms("default.api.timeout.ms")? {
            builder = builder.total_timeout(timeout);
        }
        if let Some(timeout) = properties.take_ms("socket.connection.setup.timeout.ms")? {
            builder = builder.connect_timeout(timeout);
        }
        let usual = Backoff::default();
        let first = properties.take_ms("retry.backoff.ms")?.unwrap_or(usual.first);
        let most = properties.take_ms("retry.backoff.max.ms")?.unwrap_or(usual.most);
        builder = builder.backoff(Backoff { first, most: most.max(first) });
        if let Some(age) = properties.take_ms("metadata.max.age.ms")? {
            builder = builder.metadata_max_age(age);
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<ClientBuilder, PropertyError> {
        let mut properties = Properties::parse(text)?;
        let builder = ClientBuilder::from_properties(&mut properties)?;
        properties.finish().map(|()| builder)
    }

    #[test]
    fn names_of_kafka_become_settings() {
        let builder = built(
            "# where\nbootstrap.servers = b:9092\nclient.id: me\nrequest.timeout.ms=7\n\
             default.api.timeout.ms=8\nretry.backoff.ms=5000\nsecurity.protocol=PLAINTEXT\n",
        );
        let builder = builder.unwrap();
        assert_eq!(builder.bootstrap, "b:9092");
        assert_eq!(builder.connection.client_id.as_deref(), Some("me"));
        assert_eq!(builder.connection.request_timeout, Duration::from_millis(7));
        assert_eq!(builder.retry.total_timeout, Duration::from_millis(8));
        assert_eq!(builder.retry.backoff.first, builder.retry.backoff.most);
    }

    #[test]
    fn what_cannot_be_taken_is_refused_with_what_to_do() {
        for (text, words) in [
            ("client.id=x", "bootstrap.servers is missing"),
            ("bootstrap.servers=b\nclient.idd=x", "did you mean client.id?"),
            ("bootstrap.servers=b\nsomething.else.entirely=x", "is no setting of what was built"),
            ("bootstrap.servers=b\nrequest.timeout.ms=1s", "a number of milliseconds is needed"),
            ("bootstrap.servers=b\nsasl.mechanism=PLAIN", "give the builder an authenticator"),
            ("bootstrap.servers=b\nsecurity.protocol=SSL", "a transport that encrypts"),
            ("bootstrap.servers=b\nwhat", "line 2 is no property"),
        ] {
            let error = built(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
