//! What fuzzers found, and what they begin with, stays judged.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use atoll_fuzz_targets::{TARGETS, run};

#[test]
fn every_corpus_is_replayed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for (name, _) in TARGETS {
        let folder = fuzz.join("corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() >= 3, "{name} has a corpus");
        for input in inputs {
            println!("{}", input.display());
            run(name, &fs::read(&input).unwrap());
        }
        assert!(fuzz.join("fuzz_targets").join(format!("{name}.rs")).exists(), "{name} can be fuzzed");
    }
}

/// Bytes that are no text, no JSON, no YAML, no token.
#[test]
fn bytes_of_no_sense_are_refused_without_harm() {
    for (name, _) in TARGETS {
        for bytes in [&b""[..], b"\xff\xfe", b"{", b"[[[[", b"null", b"\0\0", b"- - - - -", b"{{{{", b"a.b.c"] {
            run(name, bytes);
        }
    }
}
