//! What a whole exchange costs without a socket: client, gate and storage in one thread (`cargo bench --bench exchange`).
//!
//! `FILMGATE_EXCHANGES=N` makes N plain exchanges of 1 KB instead of measuring, for a profiler that counts.

use criterion::{BenchmarkId, Criterion, Throughput};

mod memory;

use memory::{Speaking, with_client};

fn exchange(c: &mut Criterion) {
    let mut group = c.benchmark_group("exchange");
    for (speaking, name) in [(Speaking::Plain, "plain"), (Speaking::Tls, "TLS")] {
        for body_bytes in [1024, 16 * 1024, 1024 * 1024] {
            group.throughput(Throughput::Bytes(body_bytes as u64));
            group.bench_function(BenchmarkId::new(name, body_bytes), |b| {
                b.iter_custom(|exchanges| {
                    with_client(speaking, body_bytes, async |client| {
                        client.exchange().await;
                        let begun = std::time::Instant::now();
                        for _ in 0..exchanges {
                            client.exchange().await;
                        }
                        begun.elapsed()
                    })
                });
            });
        }
    }
    group.finish();
}

fn main() {
    if let Some(number) = std::env::var("FILMGATE_EXCHANGES").ok().and_then(|number| number.parse().ok()) {
        return with_client(Speaking::Plain, 1024, async |client| {
            for _ in 0..number {
                client.exchange().await;
            }
        });
    }
    let mut criterion = Criterion::default().configure_from_args();
    exchange(&mut criterion);
    criterion.final_summary();
}
