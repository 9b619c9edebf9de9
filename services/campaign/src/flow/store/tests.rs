//! Tests of statements, on every store.
