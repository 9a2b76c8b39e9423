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
fn connections_hold_their_promises() {
    replay("exchange", bodies::exchange::run);
}

#[test]
fn every_seed_is_harmless_to_every_target() {
    for target in ["request_head", "response_head", "chunked", "exchange"] {
        seeds(target).iter().for_each(|seed| bodies::run_all(seed));
    }
}
