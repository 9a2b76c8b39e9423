//! `filmgate demo --once`, small: the gate, the embedded S3 and every step of the round trip.
#![cfg(feature = "demo")]

use filmgate::demo::{Options, round_trip};

#[test]
fn the_round_trip_passes_with_a_small_film() {
    let report = round_trip(&Options { once: true, size_bytes: 8 * 1024 * 1024, ..Options::default() }).unwrap();
    assert!(report.passed(), "\n{report}");
    assert_eq!(report.film_bytes, 8 * 1024 * 1024);
}

#[test]
fn a_film_of_odd_size_passes_too() {
    let report = round_trip(&Options { once: true, size_bytes: 5 * 1024 * 1024 + 1, ..Options::default() }).unwrap();
    assert!(report.passed(), "\n{report}");
}
