//! Scenarios of the whole program: from an event through audiences, waits and experiments to a mail in a real SMTP server and back.

mod crash;
mod shop;
mod story;
