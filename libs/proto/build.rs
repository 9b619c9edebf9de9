//! Generates messages, clients, servers and the descriptor set from `proto/`, without `protoc`.
use std::path::{Path, PathBuf};

use prost::Message;

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: a build folder that checkouts share may hold the script as another checkout compiled it.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    proto_files(&root.join("segue"), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("segue.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Bodies of batches are passed on without a copy.
        .bytes(".segue.ingest.v1.CollectRequest.body")
        .bytes(".segue.ingest.v1.CollectResponse.body")
        .bytes(".segue.ingest.v1.CreateImportRequest.part.chunk")
        .compile_fds(descriptors)?;
    Ok(())
}
