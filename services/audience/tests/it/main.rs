//! Integration tests of the audience service.
