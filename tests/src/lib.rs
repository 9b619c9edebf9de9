//! What end-to-end tests and benchmarks share: starting the real program in one of its shapes, and talking to it.

pub mod events;
pub mod http;
pub mod installation;
pub mod mail;
