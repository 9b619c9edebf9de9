//! Requests to hosts that users name: to addresses that were checked and no others, without redirects or proxies, signed as Standard
//! Webhooks say.

mod address;
mod answer;
mod signature;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, redirect};
use url::{Host, Url};

pub use address::{NotPublic, is_public};
pub use answer::{asked_pause, first_words, problem, read, retry_after};
pub use signature::{new_secret, sign, signed};

/// How long connecting may take at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Without TLS.
    pub allow_insecure: bool,
    /// Addresses of private networks, of this machine, or of the link.
    pub allow_private: bool,
    /// Key of the configuration that allows what is without TLS.
    pub insecure_setting: &'static str,
    /// Key of the configuration that allows private addresses.
    pub private_setting: &'static str,
}

/// Looks hosts up and refuses those with addresses that may not be reached. What it answers is what is connected to.
struct Resolver {
    rules: Rules,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules;
        Box::pin(async move {
            let found = resolve(name.as_str(), 0, &rules).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a host, every one of which may be reached. Whoever connects connects to these, and looks up nothing again.
pub async fn resolve(host: &str, port: u16, rules: &Rules) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    address::check(host, found.iter().map(SocketAddr::ip), rules).map_err(io::Error::other)?;
    Ok(found)
}

/// A host as a URL names it, in ASCII and without brackets. A name is looked up when it is used; an address in its place says now where it
/// leads, and is refused if it may not be reached.
pub fn check_host(host: Option<&str>, rules: &Rules) -> Result<String, String> {
    let host = host.filter(|host| !host.is_empty()).ok_or("must name a host")?;
    let (address, host) = match Host::parse(host).map_err(|error| format!("names no host: {error}"))? {
        Host::Domain(name) => (None, name),
        Host::Ipv4(address) => (Some(IpAddr::V4(address)), address.to_string()),
        Host::Ipv6(address) => (Some(IpAddr::V6(address)), address.to_string()),
    };
    address::check(&host, address, rules).map_err(|error| error.to_string())?;
    Ok(host)
}

/// Why a text is no URL to send requests to.
pub fn check_url(text: &str, rules: &Rules) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if rules.allow_insecure => {}
        "http" => return Err(format!("must begin with `https://`; an operator can allow `http://` by {}", rules.insecure_setting)),
        _ => return Err("must begin with `https://`".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a name or password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (`#…`)".to_owned());
    }
    check_host(url.host_str(), rules)?;
    Ok(url)
}

/// A client that goes where the rules allow, whole requests bounded by the time-out. It looks nothing up for hosts that are addresses:
/// check every URL ([`check_url`]) before it is used.
pub fn client(rules: &Rules, timeout: Duration) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("Segue/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .https_only(!rules.allow_insecure)
        .timeout(timeout)
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .pool_idle_timeout(Duration::from_secs(30))
        .dns_resolver(Resolver { rules: *rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Rules =
        Rules { allow_insecure: false, allow_private: false, insecure_setting: "s.insecure", private_setting: "s.private" };

    #[test]
    fn urls_must_be_https_without_credentials_and_not_lead_to_private_addresses() {
        for url in [
            "",
            "crm.example",
            "ftp://crm.example",
            "http://crm.example",
            "https://user:pass@crm.example/",
            "https://crm.example/#part",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/",
        ] {
            assert!(check_url(url, &CLOSED).is_err(), "{url}");
        }
        for url in ["https://crm.example", "https://crm.example:8443/a/b?c=d", "https://8.8.8.8/", "https://한국.example/"] {
            assert!(check_url(url, &CLOSED).is_ok(), "{url}");
        }
        let open = Rules { allow_insecure: true, allow_private: true, ..CLOSED };
        assert!(check_url("http://127.0.0.1:8080/hook", &open).is_ok());
        assert!(check_url("http://crm.example", &CLOSED).is_err_and(|problem| problem.contains("s.insecure")));
        assert!(check_url("https://[::1]/", &CLOSED).is_err_and(|problem| problem.contains("s.private")));
    }

    #[tokio::test]
    async fn hosts_that_lead_to_private_addresses_are_refused_when_they_are_looked_up() {
        for host in ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "127.1", "::1", "::ffff:127.0.0.1"] {
            let refused = resolve(host, 25, &CLOSED).await.expect_err(host).to_string();
            assert!(refused.contains("not one of the public internet"), "{host}: {refused}");
        }
        let open = Rules { allow_private: true, ..CLOSED };
        assert!(resolve("localhost", 25, &open).await.is_ok_and(|found| found.iter().all(|address| address.port() == 25)));
        assert_eq!(check_host(Some("[::1]"), &open).as_deref(), Ok("::1"));
        assert_eq!(check_host(Some("한국.example"), &CLOSED).as_deref(), Ok("xn--3e0b707e.example"));
    }
}
