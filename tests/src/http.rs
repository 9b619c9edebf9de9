//! Plain HTTP calls, as a site's own code would make them.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Posts a body to `url` with a write key as Basic user; answers with status and body.
pub async fn post(url: &str, write_key: &str, body: impl Into<Bytes>) -> anyhow::Result<(StatusCode, String)> {
    let request = Request::post(url).header("authorization", format!("Bearer {write_key}")).body(Full::new(body.into()))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
