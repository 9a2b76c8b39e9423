//! Keys that were handed on leave nothing of themselves in memory that is given back.
#![allow(unsafe_code, reason = "a global allocator that looks at what it gets back can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;

use filmgate::tls::config::Version;
use filmgate::tls::session::{Session, TrafficKey};

#[path = "tls/ends.rs"]
#[allow(dead_code, reason = "shared with the tests of TLS")]
mod ends;
#[path = "tls/pki.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of TLS")]
mod pki;

use ends::{End, Ours, talk};

/// Who protects TLS 1.3 records in these tests.
const RECORDS: filmgate::tls::config::Records = filmgate::tls::config::Records::Own;

/// The system's allocator, keeping a copy of what the watched thread gives back.
struct Remembering;

struct Freed {
    bytes: [u8; FREED_BYTES_MAX],
    len: usize,
}

const FREED_BYTES_MAX: usize = 64 * 1024;

static FREED: Mutex<Freed> = Mutex::new(Freed { bytes: [0; FREED_BYTES_MAX], len: 0 });

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WATCHED.get() {
            let mut freed = FREED.lock().unwrap();
            let len = freed.len;
            let room = &mut freed.bytes[len..len + layout.size()];
            // SAFETY: the block is so long and was given out zeroed; the room is as long and elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(block, room.as_mut_ptr(), layout.size()) };
            freed.len += layout.size();
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Remembering = Remembering;

/// Does `work` and returns what was in the memory it gave back. One at a time.
fn freed_by<T>(work: impl FnOnce() -> T) -> (T, Vec<u8>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    FREED.lock().unwrap().len = 0;
    WATCHED.set(true);
    let done = work();
    WATCHED.set(false);
    let freed = FREED.lock().unwrap();
    (done, freed.bytes[..freed.len].to_vec())
}

fn holds(memory: &[u8], bytes: &[u8]) -> bool {
    memory.windows(bytes.len()).any(|window| window == bytes)
}

#[test]
fn what_is_given_back_is_seen() {
    let ((), freed) = freed_by(|| drop(Box::new(*b"something to find")));
    assert!(holds(&freed, b"something to find"));
}

/// Key and initialisation vector, on the stack.
fn copy_of(key: &TrafficKey) -> ([u8; 32], [u8; 12]) {
    let key = key.record_key().unwrap();
    let mut copy = [0; 32];
    copy[..key.key.len()].copy_from_slice(key.key);
    (copy, *key.iv)
}

#[test]
fn keys_for_a_kernel_are_wiped_wherever_they_were() {
    let (client, server) = pki::pair(Version::Tls13, &pki::ECDSA);
    let mut server = Ours::new(Session::server(&server).unwrap());
    let mut client = Ours::new(Session::client(&client).unwrap());
    client.session.keep_keys();
    server.session.keep_keys();
    client.take(&[]).unwrap();
    talk(&mut client, &mut server).unwrap();
    for session in [&mut client.session, &mut server.session] {
        let (keys, freed) = freed_by(|| {
            let keys = session.take_keys().unwrap();
            let copies = [copy_of(keys.send()), copy_of(keys.receive())];
            session.leave_to_kernel(true);
            drop(keys);
            copies
        });
        assert!(!freed.is_empty());
        for (key, iv) in keys {
            // The shortest key has 16 bytes.
            assert!(key[..16] != [0; 16] && !holds(&freed, &key[..16]), "a key");
            assert!(iv != [0; 12] && !holds(&freed, &iv), "an initialisation vector");
        }
    }
}
