//! The two ends of the side-by-side benchmark: `upstream` stands in for S3, `client` makes the load, `idle` holds
//! connections open. One thread each, an epoll loop, bounded in time and memory; results are JSON on standard output.

mod arguments;
mod body;
mod client;
mod connection;
mod cpu;
mod head;
mod histogram;
mod idle;
mod poll;
mod report;
mod session;
mod upstream;

use arguments::Arguments;

/// What every part fails with: a sentence for a person.
type Failure = Box<dyn std::error::Error>;

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let outcome = Arguments::parse(words).and_then(|arguments| match command.as_str() {
        "upstream" => upstream::run(&arguments),
        "client" => client::run(&arguments),
        "idle" => idle::run(&arguments),
        _ => Err("usage: filmgate-load upstream|client|idle --NAME VALUE...".into()),
    });
    if let Err(failure) = outcome {
        eprintln!("filmgate-load {command}: {failure}");
        std::process::exit(1);
    }
}
