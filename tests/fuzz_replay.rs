//! Replays the fuzz corpus on the stable compiler: every seed, every front of it, and small changes to it.

#[path = "fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

/// The seeds of one target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        fs::read_dir(&directory).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let seeds: Vec<_> = paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect();
    assert!(seeds.len() >= 24, "{} holds {} seeds only", directory.display(), seeds.len());
    seeds
}

/// Runs `body` over the seeds and their neighbours: cut short, doubled, one byte replaced, removed or repeated.
fn replay(target: &str, body: fn(&[u8])) {
    for seed in seeds(target) {
        body(&seed);
        body(&[&seed[..], &seed[..]].concat());
        for at in 0..seed.len().min(NEIGHBOURS_MAX) {
            let (front, back) = (&seed[..at], &seed[at + 1..]);
            body(front);
            body(&[front, back].concat());
            body(&[front, &[seed[at], seed[at]], back].concat());
            for byte in *b"\r\n\0 \t,;:-+0_x\x7f\xff" {
                body(&[front, &[byte], back].concat());
            }
        }
    }
}

/// Bytes at the front of a seed that are changed: the long seeds are about length.
const NEIGHBOURS_MAX: usize = 160;

#[test]
fn request_heads_hold_their_promises() {
    replay("request_head", bodies::request_head::run);
}

#[test]
fn response_heads_hold_their_promises() {
    replay("response_head", bodies::response_head::run);
}

#[test]
fn chunked_bodies_hold_their_promises() {
    replay("chunked", bodies::chunked::run);
}

#[test]
fn forms_hold_their_promises() {
    replay("form", bodies::form::run);
}

#[test]
fn connections_hold_their_promises() {
    replay("exchange", bodies::exchange::run);
}

/// A run of it takes three handshakes, hence fewer neighbours, and scripts made up from seeds of their own.
#[test]
fn record_layers_hold_their_promises() {
    for seed in seeds("records") {
        bodies::records::run(&seed);
        for at in 1..seed.len().min(24) {
            bodies::records::run(&seed[..at]);
            bodies::records::run(&[&seed[..at], &[seed[at] ^ 0x0c], &seed[at + 1..]].concat());
        }
    }
    for seed in 0..SCRIPTS {
        let mut steps = bodies::Steps::of(&u32::to_be_bytes(seed));
        let script: Vec<u8> = (0..64).map(|_| steps.next_byte()).collect();
        bodies::records::run(&script);
    }
}

/// Made-up scripts that are played.
const SCRIPTS: u32 = 2000;

/// A run of it computes dozens of signatures, hence fewer neighbours.
#[test]
fn payloads_hold_their_promises() {
    for seed in seeds("payload") {
        bodies::payload::run(&seed);
        bodies::payload::run(&[&seed[..], &seed[..]].concat());
        for at in (0..seed.len().min(NEIGHBOURS_MAX)).chain(seed.len().saturating_sub(NEIGHBOURS_MAX / 4)..seed.len()) {
            let (front, back) = (&seed[..at], &seed[at + 1..]);
            bodies::payload::run(front);
            bodies::payload::run(&[front, back].concat());
            bodies::payload::run(&[front, &[b"\r\n\0;:0F"[at % 7]], back].concat());
        }
    }
}

#[test]
fn every_seed_is_harmless_to_every_target() {
    for target in ["request_head", "response_head", "chunked", "exchange", "records", "payload", "form"] {
        seeds(target).iter().for_each(|seed| bodies::run_all(seed));
    }
}
