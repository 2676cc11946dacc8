#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rstore_fuzz::exercise::ignore(bytes));
