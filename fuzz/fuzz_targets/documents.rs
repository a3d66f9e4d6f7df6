#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slim_fuzz::target::run("documents", bytes));
