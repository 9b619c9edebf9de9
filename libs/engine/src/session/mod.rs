//! Cutting a person's events into sessions.
