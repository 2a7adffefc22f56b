#![no_main]

#[path = "../oracles/mod.rs"]
#[allow(dead_code, reason = "each target is about one of them")]
mod oracles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracles::dockerfile::check(data));
