//! The gateway as its clients see it: real sockets, real databases, a real (small) ingest service behind.

mod access;
mod http_api;
mod ingest;
mod limits;
mod passing_on;
mod start;
mod tenancy;
mod web;
