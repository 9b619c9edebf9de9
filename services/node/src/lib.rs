//! The process: which services run in it, how they find each other, and the operator's command line.

pub mod cli;
pub mod client;
mod demo;
pub mod json;
pub mod process;
pub mod settings;

pub use process::Process;
pub use settings::{Service, Settings};
