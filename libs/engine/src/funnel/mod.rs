//! How far persons get through the steps of a funnel, and how fast.
