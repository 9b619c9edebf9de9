//! The gateway as its clients see it: real sockets, real databases, a real (small) services behind.

mod access;
mod http_api;
mod ingest;
mod limits;
mod links;
mod passing_on;
mod start;
mod tenancy;
mod web;
