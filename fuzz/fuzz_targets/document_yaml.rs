#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atoll_fuzz_targets::run("document_yaml", bytes));
