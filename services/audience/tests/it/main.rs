//! Integration tests of the audience service.

mod calls;
