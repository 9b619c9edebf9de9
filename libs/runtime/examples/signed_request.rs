//! Signs requests as webhooks are signed, so that published libraries can verify them; see tests/sdk/standard_webhooks.
//!
//! `signed_request secret` prints a new secret. `signed_request send URL SECRET` sends a request; it fails if the answer is not 2xx.

use std::time::Duration;

use anyhow::{Context, bail};
use segue_model::{Clock, SystemClock};
use segue_runtime::outgoing::{Rules, check_url, client, new_secret, signed};

const RULES: Rules = Rules { allow_insecure: true, allow_private: true, insecure_setting: "", private_setting: "" };

async fn send(url: &str, secret: &str) -> anyhow::Result<()> {
    let url = check_url(url, &RULES).map_err(anyhow::Error::msg)?;
    let request = client(&RULES, Duration::from_secs(10)).build()?.post(url).header("content-type", "application/json");
    let body = r#"{"type":"order.paid","data":{"id":"o-1","note":"정말 좋아요 ✓"}}"#.as_bytes().to_vec();
    let request = signed(request, secret, "msg_0123456789abcdef_1", SystemClock.now_us(), body).context("this is no secret")?;
    request.send().await?.error_for_status()?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    segue_runtime::install_tls_provider();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["secret"] => println!("{}", new_secret(&mut rand::rng())),
        ["send", url, secret] => send(url, secret).await?,
        _ => bail!("usage: signed_request secret | signed_request send URL SECRET"),
    }
    Ok(())
}
