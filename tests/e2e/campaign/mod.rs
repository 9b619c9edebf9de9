//! Scenarios of the whole program: from an event through audiences, waits and experiments to a mail in a real SMTP server and back.

mod crash;
mod every_shape;
mod shop;
mod story;
mod terminal;
