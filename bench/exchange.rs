//! What a whole exchange costs without a socket: client, gate and storage in one thread (`cargo bench --bench exchange`).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[allow(dead_code, reason = "what signs is for the counts only")]
mod memory;

use memory::{Speaking, with_client};

#[expect(clippy::disallowed_methods, reason = "a bench measures how long things take")]
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

criterion_group!(exchanges, exchange);
criterion_main!(exchanges);
