//! Which way sessions take.
