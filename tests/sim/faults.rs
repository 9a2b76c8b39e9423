//! The fault table: how likely each misfortune is in the world of one seed.

use std::time::Duration;

use crate::rng::Rng;

/// How the far side of a link comes to its end at a chosen byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process ends in order: FIN, and nobody reads any more.
    Close,
    /// RST.
    Reset,
    /// The network forgets the rest: nothing arrives from here on, not even an end.
    Stall,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// Reads return at most this many bytes; `None` for as many as there are.
    pub read_bytes_max: Option<usize>,
    /// Bytes in flight before the writer has to wait.
    pub window_bytes: usize,
    /// How many of a thousand writes are held up.
    pub delay_permille: u64,
    /// For how long at most.
    pub delay_max: Duration,
    /// The end of the far side once this many bytes were written in this direction.
    pub cut: Option<(u64, Cut)>,
}

impl Direction {
    /// A perfect wire.
    pub const CLEAR: Self = Self {
        read_bytes_max: None,
        window_bytes: 256 * 1024,
        delay_permille: 0,
        delay_max: Duration::ZERO,
        cut: None,
    };
}

/// Both directions of one link, seen from the gate.
#[derive(Clone, Copy, Debug)]
pub struct LinkFaults {
    /// What the gate reads.
    pub inward: Direction,
    /// What the gate writes.
    pub outward: Direction,
}

impl LinkFaults {
    pub const CLEAR: Self = Self { inward: Direction::CLEAR, outward: Direction::CLEAR };

    /// A kernel takes in a few records, such as session tickets, while its program does not read.
    pub fn for_tls(mut self) -> Self {
        for direction in [&mut self.inward, &mut self.outward] {
            direction.window_bytes = direction.window_bytes.max(4096);
        }
        self
    }
}

/// Probabilities in permille, drawn once per seed.
#[derive(Clone, Debug)]
pub struct Table {
    /// Nothing breaks in a calm world: every request must succeed. Bytes may still come in odd sizes and late.
    pub calm: bool,
    pub short_reads: u64,
    pub small_windows: u64,
    pub delays: u64,
    pub client_cuts: u64,
    pub upstream_cuts: u64,
    pub connect_refused: u64,
    pub connect_slow: u64,
    pub connect_lost: u64,
    pub unresolved: u64,
    pub early_refusals: u64,
    pub server_errors: u64,
    pub idle_closes: u64,
    pub hasty_closes: u64,
    pub slow_answers: u64,
    pub chunked_answers: u64,
    pub endless_answers: u64,
    pub hints: u64,
    pub nonsense_answers: u64,
    pub stray_bytes: u64,
}

impl Table {
    pub fn draw(rng: &Rng) -> Self {
        let calm = rng.chance(300);
        let rare = |permille: u64| if rng.chance(400) { rng.below(permille) } else { 0 };
        let mut table = Self {
            calm,
            short_reads: rare(1000),
            small_windows: rare(1000),
            delays: rare(300),
            client_cuts: rare(600),
            upstream_cuts: rare(600),
            connect_refused: rare(300),
            connect_slow: rare(500),
            connect_lost: rare(200),
            unresolved: rare(200),
            early_refusals: rare(400),
            server_errors: rare(300),
            idle_closes: rare(600),
            hasty_closes: rare(300),
            slow_answers: rare(300),
            chunked_answers: rng.below(600),
            endless_answers: rare(200),
            hints: rare(300),
            nonsense_answers: rare(200),
            stray_bytes: rare(500),
        };
        if calm {
            table.client_cuts = 0;
            table.upstream_cuts = 0;
            table.connect_refused = 0;
            table.connect_lost = 0;
            table.unresolved = 0;
            table.idle_closes = 0;
            table.hasty_closes = 0;
            table.nonsense_answers = 0;
        }
        table
    }

    /// Bytes of the longest bodies; a world that moves few bytes at a time gets short ones.
    pub fn body_bytes_max(&self) -> usize {
        if self.small_windows + self.short_reads > 0 { 3_000 } else { 400_000 }
    }

    /// Nothing that only an HTTP proxy has to deal with.
    pub fn speak_plainly(&mut self) {
        self.hints = 0;
        self.nonsense_answers = 0;
        self.stray_bytes = 0;
    }

    /// Whether what is sent together arrives together.
    pub fn is_swift(&self) -> bool {
        self.short_reads + self.small_windows + self.delays == 0
    }

    /// The faults of one new link; `cuts` in permille.
    pub fn link(&self, rng: &Rng, cuts: u64) -> LinkFaults {
        let mut faults = LinkFaults { inward: self.direction(rng), outward: self.direction(rng) };
        if rng.chance(cuts) {
            let how = [Cut::Close, Cut::Reset, Cut::Stall][rng.below(3) as usize];
            // Most cuts fall where heads are, some deep in a body.
            let at = rng.below([40, 400, 4_000, 100_000][rng.below(4) as usize]);
            let direction = if rng.chance(500) { &mut faults.inward } else { &mut faults.outward };
            direction.cut = Some((at, how));
        }
        faults
    }

    fn direction(&self, rng: &Rng) -> Direction {
        let mut direction = Direction::CLEAR;
        if rng.chance(self.short_reads) {
            direction.read_bytes_max = Some(rng.between(1, [3, 60, 2_000][rng.below(3) as usize]));
        }
        if rng.chance(self.small_windows) {
            let least = if self.calm { 8 } else { 1 };
            direction.window_bytes = rng.between(least, [10, 500, 20_000][rng.below(3) as usize]);
        }
        if rng.chance(self.delays) {
            direction.delay_permille = rng.below(500);
            // In a calm world even a long head arrives in time, byte by byte and late.
            direction.delay_max = Duration::from_micros(1 + rng.below(if self.calm { 300 } else { 400_000 }));
        }
        direction
    }
}
