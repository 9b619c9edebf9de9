//! End-to-end tests: the real program in each of its shapes, called as users call it.
//!
//! To add a scenario: write it once as a function over an [`Installation`](segue_tests::installation::Installation) and run it
//! for every shape with [`for_every_shape`].

mod audience;
mod bad_input;
mod campaign;
mod crash;
mod figures;
mod import;
mod journey;
mod layout;
mod modules;
mod probes;
mod semantics;
mod shutdown;
mod truth;

use std::path::Path;

use segue_tests::installation::{Installation, Shape};

/// The program under test.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_segue-under-test"))
}

/// Runs a scenario against a fresh installation of every shape that can be had.
async fn for_every_shape<F>(scenario: impl Fn(Installation) -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    for shape in Shape::available() {
        if let Err(error) = on(shape, &[], &scenario).await {
            panic!("as {shape:?}: {error:?}");
        }
    }
}

async fn on<F>(shape: Shape, settings: &[&str], scenario: impl Fn(Installation) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    segue_runtime::install_tls_provider();
    scenario(Installation::start(shape, program(), settings).await?).await
}
