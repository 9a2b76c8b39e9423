//! What an access record costs the shard's thread in memory: nothing, once everything has its size.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::Duration;

use filmgate::access::{AccessRecord, AccessSink, Ended, Party, Phase, RequestId, Said};
use filmgate::clock;
use filmgate::server::AccessLog;
use filmgate::server::logging::AccessLogger;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    fn count() {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller keeps the contract of `realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread asked for memory meanwhile.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const RECORDS: u64 = 1000;

/// One exchange as the line tells it, with the memory of the one before.
fn tell(memory: String, number: u64, sink: &impl AccessSink) -> String {
    let mut record = AccessRecord::reusing(memory, clock::now().wall, "192.0.2.7:50123".parse().unwrap());
    record.id = Some(RequestId { prefix: 0x17, number });
    record.tls = Some("1.3");
    record.say(Said::Host, b"s3-proxy.mystudio.com");
    record.say(Said::Method, b"GET");
    record.operation = Some("GetObject");
    record.say_decoded(Said::Key, b"0a4d55a8/cf23df22/shot%20010_%C3%A9.mov");
    record.say(Said::Range, b"bytes=0-");
    record.say(Said::UserAgent, b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140");
    record.say(Said::Bucket, b"mystudio-media");
    record.upstream = Some("[2001:db8::1]:443".parse().unwrap());
    record.status = Some(206);
    record.say(Said::S3RequestId, b"656C76696E6727732");
    record.say(Said::S3Id2, b"Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7/C1NPcfTWAtRPfTaOFgZ0Jk6SEXAMPLEw1u8f0aKt=");
    record.bytes_out = 142_606_336;
    record.ttfb = Some(Duration::from_micros(12_345));
    record.total = Duration::from_millis(number);
    record.ended = Ended { by: Party::Upstream, at: Phase::Complete };
    sink.record(&record);
    record.into_memory()
}

fn lines(path: &Path) -> u64 {
    std::fs::read_to_string(path).unwrap().lines().filter(|line| line.contains("\"GetObject\"")).count() as u64
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(Box::new(1))) > 0);
}

#[test]
fn a_thousand_records_ask_for_no_memory_on_the_shards_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (sender, logger) = AccessLogger::start(AccessLog::File(path.clone())).unwrap();
    let mut memory = tell(String::new(), 0, &sender);
    let counted = allocations(|| {
        for number in 1..=RECORDS {
            memory = tell(std::mem::take(&mut memory), number, &sender);
            if number % 250 == 0 {
                // Long enough for the log's thread to take what is there.
                thread::sleep(Duration::from_millis(30));
            }
        }
    });
    logger.finish();
    assert_eq!((counted, lines(&path)), (0, RECORDS + 1));
}
