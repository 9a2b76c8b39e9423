//! A steady-state request takes nothing from the heap: everything it needs was there before.
#![allow(unsafe_code, reason = "a global allocator that counts can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[path = "../bench/memory/mod.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod memory;

use memory::{Client, Speaking, with_client, with_signing_client};

/// The system's allocator, counting what this thread asks for.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static TRAP: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
    if TRAP.with(|trap| trap.replace(false)) {
        eprintln!("{}", std::backtrace::Backtrace::force_capture());
    }
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of `EXCHANGES` requests after a warm-up. `ALLOCATIONS_TRACE=1` shows where the first one comes from.
fn allocations(speaking: Speaking, body_bytes: usize) -> u64 {
    with_client(speaking, body_bytes, counted)
}

async fn counted(client: Client) -> u64 {
    for _ in 0..WARM_UP {
        client.exchange().await;
    }
    TRAP.set(std::env::var_os("ALLOCATIONS_TRACE").is_some());
    let before = COUNT.get();
    for _ in 0..EXCHANGES {
        client.exchange().await;
    }
    TRAP.set(false);
    COUNT.get() - before
}

const WARM_UP: usize = 100;
const EXCHANGES: u64 = 100;

#[test]
fn the_allocator_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(COUNT.get() - before, 1);
}

#[test]
fn a_small_plain_request_takes_nothing_from_the_heap() {
    assert_eq!(allocations(Speaking::Plain, 1024), 0);
}

#[test]
fn a_plain_request_of_some_size_takes_nothing_from_the_heap() {
    assert_eq!(allocations(Speaking::Plain, 16 * 1024), 0);
    assert_eq!(allocations(Speaking::Plain, 1024 * 1024), 0);
}

#[test]
fn a_small_request_through_tls_takes_nothing_from_the_heap() {
    assert_eq!(allocations(Speaking::Tls, 1024), 0);
}

#[test]
fn a_request_of_some_size_through_tls_takes_nothing_from_the_heap() {
    assert_eq!(allocations(Speaking::Tls, 16 * 1024), 0);
    assert_eq!(allocations(Speaking::Tls, 1024 * 1024), 0);
}

/// What was decided.
#[test]
fn a_request_that_is_signed_anew_takes_little_from_the_heap() {
    assert_eq!(with_signing_client(1024, counted), EXCHANGES);
}
