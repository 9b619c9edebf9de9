//! Bodies of the HTTP API: no bytes make the reader panic, and what it reads can be checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segue_ingest::collect;

const ROUTES: [&str; 8] = ["track", "identify", "page", "screen", "group", "alias", "batch", "import"];

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let route = ROUTES[usize::from(*first) % ROUTES.len()];
    let _ = collect::read(route, body, 1_795_338_000_000_000);
});
