//! Real parts for tests, made for one test and removed after it: databases, logs, ports. A dev-dependency only.
//!
//! ```no_run
//! # async fn example(migrations: segue_store::Migrations) -> anyhow::Result<()> {
//! // One body, run on every backend there is:
//! for store in segue_testkit::stores() {
//!     let db = store.open("ingest", migrations).await?; // again for a second handle, or to reopen
//!     db.close().await;
//! }
//! for log in segue_testkit::logs() {
//!     let log = log.open().await?;
//!     log.close().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! SQLite and the embedded log are always there. PostgreSQL is when `SEGUE_TEST_POSTGRES_URL` is set, NATS when
//! `SEGUE_TEST_NATS_URL` is; with `SEGUE_TEST_BACKENDS=required` a missing one fails the test instead of being left out.

pub mod destination;
mod log;
mod store;

pub use log::{LogKind, TempLog, logs};
pub use store::{TempStore, stores};

/// The URL of a test server, under the rules above.
#[allow(clippy::disallowed_methods, reason = "tests have no configuration but the environment")]
fn server_url(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(url) if !url.is_empty() => Some(url),
        _ if std::env::var("SEGUE_TEST_BACKENDS").is_ok_and(|value| value == "required") => {
            panic!("SEGUE_TEST_BACKENDS=required, but {variable} is not set: start the server and set it")
        }
        _ => None,
    }
}

/// A name that no other test has: `t_` and 32 hexadecimal digits.
#[allow(clippy::disallowed_methods, reason = "a test's name is random on purpose")]
pub fn unique_name() -> String {
    format!("t_{}", uuid::Uuid::new_v4().simple())
}

/// A TCP port on loopback that was free a moment ago. Prefer binding port 0 and asking for the address; this is for programs
/// that must be told.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Runs clean-up to its end from a `drop`, which cannot await: on a thread of its own, with a runtime of its own.
fn run_to_end<F>(work: F)
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work)
    });
    match thread.join() {
        Ok(Ok(())) => {}
        // Not a panic: that would hide the failure of the test itself.
        Ok(Err(error)) => eprintln!("clean-up after a test failed: {error:#}"),
        Err(_) => eprintln!("clean-up after a test panicked"),
    }
}
