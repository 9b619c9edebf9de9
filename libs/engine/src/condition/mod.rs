//! Whether a person meets a condition.
