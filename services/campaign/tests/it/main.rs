//! Tests of the service against real stores and logs.
