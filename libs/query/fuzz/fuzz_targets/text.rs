//! Texts from outside: none makes the reader panic, and what it reads is said again by its usual form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segue_query::{TEXT_BYTES_MAX, format, normalise, parse};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(condition) => {
            assert_eq!(normalise(&condition), condition);
            let usual = format(&condition).expect("what was read can be written");
            if usual.len() <= TEXT_BYTES_MAX {
                assert_eq!(parse(&usual).as_ref(), Ok(&condition));
            }
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.byte()));
            let _ = error.to_string();
        }
    }
});
