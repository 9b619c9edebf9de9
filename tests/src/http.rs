//! Plain HTTP calls, as a site's own code would make them.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Posts a body to `url` with a key as Bearer token; answers with status and body.
pub async fn post(url: &str, key: &str, body: impl Into<Bytes>) -> anyhow::Result<(StatusCode, String)> {
    send(Request::post(url).header("authorization", format!("Bearer {key}")).body(Full::new(body.into()))?).await
}

/// Gets `url`; answers with status and body.
pub async fn get(url: &str) -> anyhow::Result<(StatusCode, String)> {
    send(Request::get(url).body(Full::default())?).await
}

async fn send(request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, String)> {
    let answer = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
