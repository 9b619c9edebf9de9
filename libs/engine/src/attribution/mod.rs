//! Which touches an event is credited to: first, last, linear, position-based and time-decay attribution.
