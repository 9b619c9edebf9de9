//! Scenarios of the whole program: from an event through audiences, waits and experiments to a mail in a real SMTP server and back.

mod cases;
mod crash;
mod every_shape;
mod providers;
mod shop;
mod story;
mod terminal;
