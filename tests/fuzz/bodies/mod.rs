//! What the fuzzer runs, as plain functions that panic when a promise is broken.

pub(crate) mod chunked;
pub(crate) mod exchange;
pub(crate) mod forge;
pub(crate) mod form;
pub(crate) mod payload;
pub(crate) mod records;
pub(crate) mod request_head;
pub(crate) mod response_head;

use filmgate::http::head::{HeadError, Scan};

/// Runs every body over the same bytes: bytes made for one target are odd ones for the others.
#[allow(dead_code)]
pub(crate) fn run_all(data: &[u8]) {
    request_head::run(data);
    response_head::run(data);
    chunked::run(data);
    exchange::run(data);
    records::run(data);
    payload::run(data);
    form::run(data);
}

/// A sequence of step widths that depends on the input only, so that a seed stays plain wire bytes.
pub(crate) struct Steps(u64);

impl Steps {
    pub(crate) fn of(data: &[u8]) -> Self {
        Self(
            data.iter()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)),
        )
    }

    fn random(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }

    /// Any byte as likely as any other.
    #[allow(dead_code)]
    pub(crate) fn next_byte(&mut self) -> u8 {
        (self.random() >> 8) as u8
    }

    /// Mostly a few bytes, sometimes many.
    pub(crate) fn next(&mut self) -> usize {
        let random = self.random();
        if random & 7 == 0 { 1 + (random >> 3) % 1000 } else { 1 + (random >> 3) % 7 }
    }
}

/// Scans `data` at once and piece by piece and insists that both say the same.
pub(crate) fn scan(data: &[u8]) -> Result<Option<usize>, HeadError> {
    let at_once = Scan::default().feed(data);
    let (mut scan, mut steps, mut arrived) = (Scan::default(), Steps::of(data), 0);
    let stepwise = loop {
        arrived = (arrived + steps.next()).min(data.len());
        match scan.feed(&data[..arrived]) {
            Ok(None) if arrived < data.len() => {}
            verdict => break verdict,
        }
    };
    assert_eq!(at_once, stepwise, "a scan depends on how the bytes arrive");
    at_once
}

/// Name and value of every field line of a block that was accepted, found the naive way.
pub(crate) fn naive_fields(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut rest = block;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    assert!(rest.is_empty(), "an accepted head does not end in CRLF");
    let lines = lines.into_iter().skip_while(|line| line.is_empty()).skip(1).take_while(|line| !line.is_empty());
    let split = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':').expect("an accepted field line has a colon");
        (line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec())
    };
    lines.map(split).collect()
}
