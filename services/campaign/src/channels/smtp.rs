//! Conversations with a mail server: to a checked address of it and no other, over connections that are kept for a while.

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters, TlsParametersBuilder};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use parking_lot::Mutex;
use segue_runtime::outgoing::{self, Rules};
use tokio::time::Instant;
use url::Url;

use super::Outcome;
use super::secret::Secret;
use super::wire::again;

/// Connections that are kept.
const IDLE_MAX: usize = 16;
/// Servers close what is idle for long.
const IDLE_TIME: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The server's code for "closing the connection".
const CLOSING: u16 = 421;

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Security {
    /// As soon as the server offers it, if it does.
    Offered,
    /// By STARTTLS, or there is none.
    Required,
    /// From the beginning.
    Wrapped,
}

/// Where a mail server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    host: String,
    port: u16,
    security: Security,
}

impl Server {
    /// Reads `smtp://host:port`, `smtp+starttls://…` or `smtps://…`.
    pub(super) fn parse(text: &str, rules: &Rules) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        let (security, port) = match url.scheme() {
            "smtps" => (Security::Wrapped, 465),
            "smtp+starttls" => (Security::Required, 587),
            "smtp" if rules.allow_insecure => (Security::Offered, 25),
            "smtp" => {
                let setting = rules.insecure_setting;
                return Err(format!("must begin with `smtps://` or `smtp+starttls://`; an operator can allow `smtp://` by {setting}"));
            }
            _ => return Err("must begin with `smtps://` or `smtp+starttls://`".to_owned()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not carry a name or password: set `username` and `password`".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("must end behind the port".to_owned());
        }
        Ok(Self { host: outgoing::check_host(url.host_str(), rules)?, port: url.port().unwrap_or(port), security })
    }
}

/// The way to a mail server.
pub(super) struct Smtp {
    server: Server,
    tls: TlsParameters,
    username: String,
    password: Secret,
    rules: Rules,
    hello: ClientId,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why a message was not taken.
enum Failure {
    /// The server said no or went away, before it had heard of the message or later.
    Said { early: bool, error: Error },
    /// An address is not ASCII, and the server knows no others.
    Letters,
}

impl Failure {
    /// Whether another connection may do better.
    fn is_of_connection(&self) -> bool {
        matches!(self, Failure::Said { early: true, error } if error.status().is_none_or(|code| u16::from(code) == CLOSING))
    }
}

impl Smtp {
    pub(super) fn open(server: Server, username: &str, password: Secret, rules: &Rules) -> Result<Self, String> {
        let tls = tls(&server.host).build().map_err(|error| format!("this process cannot use TLS: {error}"))?;
        let (username, rules) = (username.to_owned(), *rules);
        Ok(Self { server, tls, username, password, rules, hello: ClientId::default(), idle: Mutex::default() })
    }

    /// Gives the server a message for one address.
    pub(super) async fn deliver(&self, from: &Address, to: &Address, message: &[u8]) -> Outcome {
        while let Some(mut connection) = self.take_idle() {
            match say(&mut connection, from, to, message).await {
                // The server has closed it meanwhile.
                Err(failure) if failure.is_of_connection() => {}
                said => return self.judge(connection, said).await,
            }
        }
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(problem) => return again(None, problem),
        };
        let said = say(&mut connection, from, to, message).await;
        self.judge(connection, said).await
    }

    fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        let mut idle = self.idle.lock();
        idle.retain(|(_, since)| since.elapsed() < IDLE_TIME);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push((connection, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let Server { host, port, security } = &self.server;
        let addresses = outgoing::resolve(host, *port, &self.rules).await.map_err(|error| format!("`{host}` cannot be used: {error}"))?;
        self.converse(&addresses, *security).await.map_err(|error| format!("no connection to the mail server: {}", told(&error)))
    }

    /// Up to where messages can be said.
    async fn converse(&self, addresses: &[std::net::SocketAddr], security: Security) -> Result<AsyncSmtpConnection, Error> {
        let wrapped = (security == Security::Wrapped).then(|| self.tls.clone());
        let mut connection = AsyncSmtpConnection::connect_tokio1(addresses, Some(CONNECT_TIMEOUT), &self.hello, wrapped, None).await?;
        let upgrade = match security {
            Security::Wrapped => false,
            Security::Required => true,
            Security::Offered => connection.can_starttls(),
        };
        if upgrade {
            connection.starttls(self.tls.clone(), &self.hello).await?;
        }
        if !self.username.is_empty() {
            let credentials = Credentials::new(self.username.clone(), self.password.reveal().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    async fn judge(&self, mut connection: AsyncSmtpConnection, said: Result<String, Failure>) -> Outcome {
        let error = match said {
            Ok(provider_message_id) => {
                self.keep(connection);
                return Outcome::Sent { provider_message_id };
            }
            Err(Failure::Said { error, .. }) => error,
            Err(Failure::Letters) => {
                self.keep(connection);
                return Outcome::Refused { error: "the mail server takes no addresses with letters beyond ASCII".to_owned() };
            }
        };
        if error.status().is_some_and(|code| u16::from(code) != CLOSING) && connection.command(Rset).await.is_ok() {
            self.keep(connection);
        }
        match error.is_permanent() {
            true => Outcome::Refused { error: told(&error) },
            false => again(None, told(&error)),
        }
    }

    #[cfg(test)]
    pub(super) fn trust(&mut self, certificate: &[u8]) {
        use lettre::transport::smtp::client::Certificate;
        let certificate = Certificate::from_pem(certificate).expect("a certificate");
        self.tls = tls(&self.server.host).add_root_certificate(certificate).build().expect("TLS");
    }
}

fn tls(host: &str) -> TlsParametersBuilder {
    TlsParameters::builder(host.to_owned())
}

/// What a server said no with, in its words.
fn told(error: &Error) -> String {
    outgoing::first_words(error.to_string().as_bytes())
}

/// Says a message; what the server answers in the end.
async fn say(connection: &mut AsyncSmtpConnection, from: &Address, to: &Address, message: &[u8]) -> Result<String, Failure> {
    let mut parameters = Vec::new();
    let (from_text, to_text): (&str, &str) = (from.as_ref(), to.as_ref());
    if !from_text.is_ascii() || !to_text.is_ascii() {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(Failure::Letters);
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let early = |error| Failure::Said { early: true, error };
    let late = |error| Failure::Said { early: false, error };
    connection.command(Mail::new(Some(from.clone()), parameters)).await.map_err(early)?;
    connection.command(Rcpt::new(to.clone(), Vec::new())).await.map_err(late)?;
    connection.command(Data).await.map_err(late)?;
    let answer = connection.message(message).await.map_err(late)?;
    Ok(outgoing::first_words(answer.first_line().unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Rules =
        Rules { allow_insecure: false, allow_private: false, insecure_setting: "s.insecure", private_setting: "s.private" };

    #[test]
    fn servers_are_named_by_scheme_host_and_port() {
        let open = Rules { allow_insecure: true, allow_private: true, ..CLOSED };
        for (text, rules, host, port, security) in [
            ("smtps://mail.example", &CLOSED, "mail.example", 465, Security::Wrapped),
            ("smtp+starttls://mail.example", &CLOSED, "mail.example", 587, Security::Required),
            ("smtp+starttls://mail.example:2525/", &CLOSED, "mail.example", 2525, Security::Required),
            ("smtp://127.0.0.1:1025", &open, "127.0.0.1", 1025, Security::Offered),
            ("smtp://[::1]", &open, "::1", 25, Security::Offered),
        ] {
            let expected = Server { host: host.to_owned(), port, security };
            assert_eq!(Server::parse(text, rules), Ok(expected), "{text}");
        }
        for text in [
            "",
            "mail.example",
            "https://mail.example",
            "smtp://mail.example",
            "smtps://",
            "smtps://user:pass@mail.example",
            "smtps://mail.example/path",
            "smtps://mail.example?tls=none",
            "smtps://127.0.0.1",
            "smtps://2130706433",
            "smtps://0x7f.1",
            "smtps://[::1]",
            "smtps://[::ffff:10.0.0.1]",
        ] {
            assert!(Server::parse(text, &CLOSED).is_err(), "{text}");
        }
    }
}
