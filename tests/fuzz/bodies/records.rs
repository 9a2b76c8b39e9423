//! Any bytes as a script of what a TLS 1.3 peer says behind the handshake, some of it changed on its way. Our record
//! layer and rustls get the same, and must make the same of it up to the first record of which ours may be stricter.

use filmgate::tls::TlsError;
use filmgate::tls::config::Records;
use filmgate::tls::session::{OpenState, RECORD_HEAD_BYTES, RECORD_TAIL_BYTES};

use super::forge::{ALERT, DATA, Forge, Forged, HANDSHAKE, SUITES, forged, key_update};

/// Steps of a script that are looked at.
const STEPS_MAX: usize = 48;

pub(crate) fn run(data: &[u8]) {
    let Some((&first, script)) = data.split_first() else { return };
    let is_server = first & 1 == 0;
    let suite = SUITES[usize::from(first >> 1) % SUITES.len()];
    let play = |records, in_runs| {
        let mut stage = Stage::new(forged(is_server, suite, records), in_runs);
        stage.play(script);
        stage
    };
    let (own, library) = (play(Records::Own, false), play(Records::Library, false));
    own.must_have_heard_only_what_was_said();
    library.must_have_heard_only_what_was_said();
    let verdicts = || format!("{:?} and {:?}", own.verdict, library.verdict);
    if own.met_a_bound() && own.verdict != library.verdict {
        // How much without data is too much is ours to say: tickets and empty records, too.
        assert!(library.heard.starts_with(&own.heard), "{}", verdicts());
    } else if own.before_stricter.is_none() || (own.verdict.is_ok() && library.verdict.is_ok()) {
        assert_eq!(own.standing(), library.standing(), "{}", verdicts());
    } else {
        assert_eq!(own.before_stricter, library.before_stricter, "{}", verdicts());
        // A version that nobody has heard of ends rustls' session as soon as it is read, ours once its record is whole.
        assert!(own.heard.len() <= library.heard.len() || library.verdict.is_err());
    }
    let in_runs = play(Records::Own, true);
    let lens = (own.heard.len(), in_runs.heard.len());
    assert!(
        own.heard == in_runs.heard,
        "runs carry something else: {lens:?}, {:?}, {:?}",
        own.verdict,
        in_runs.verdict
    );
    assert_eq!((own.verdict, own.is_closed, own.answers), (in_runs.verdict, in_runs.is_closed, in_runs.answers));
}

/// One session and the script played to it.
struct Stage {
    forged: Forged,
    in_runs: bool,
    incoming: Vec<u8>,
    heard: Vec<u8>,
    /// All application data that was sealed, in order and whatever became of it.
    said: Vec<u8>,
    verdict: Result<(), TlsError>,
    is_closed: bool,
    /// Kinds and contents of what the session sealed when it was asked to.
    answers: Vec<(u8, Vec<u8>)>,
    /// How things stood before the first record that our layer may refuse where rustls goes on.
    before_stricter: Option<Standing>,
    steps: super::Steps,
}

/// What has come of a script so far: whether all is well, bytes heard, whether there was a goodbye, what was answered.
type Standing = (bool, usize, bool, Vec<(u8, Vec<u8>)>);

/// A record on its way.
#[derive(Clone)]
struct Kept {
    wire: Vec<u8>,
    /// Our layer may refuse it, or what follows, where rustls goes on.
    is_contentious: bool,
}

/// The script's next byte; 0 behind its end.
fn next(script: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = script.split_first() else { return 0 };
    *script = rest;
    first
}

impl Stage {
    fn new(forged: Forged, in_runs: bool) -> Self {
        Self {
            forged,
            in_runs,
            incoming: Vec::new(),
            heard: Vec::new(),
            said: Vec::new(),
            verdict: Ok(()),
            is_closed: false,
            answers: Vec::new(),
            before_stricter: None,
            steps: super::Steps::of(b"records"),
        }
    }

    fn standing(&self) -> Standing {
        (self.verdict.is_ok(), self.heard.len(), self.is_closed, self.answers.clone())
    }

    fn met_a_bound(&self) -> bool {
        format!("{:?}", self.verdict).contains("TooMany")
    }

    fn play(&mut self, mut script: &[u8]) {
        self.steps = super::Steps::of(script);
        let mut kept: Vec<Kept> = Vec::new();
        for _ in 0..STEPS_MAX {
            if script.is_empty() {
                break;
            }
            let step = next(&mut script);
            if step % 16 < 11 {
                kept.push(self.say(step % 16, &mut script));
            } else {
                self.meddle(step % 16, &mut script, &mut kept);
            }
            // Some records wait, so that there is something to meddle with.
            while kept.len() > usize::from(step >> 6) {
                let record = kept.remove(0);
                self.deliver(&record);
            }
        }
        for record in kept {
            self.deliver(&record);
        }
    }

    /// Seals one record.
    fn say(&mut self, what: u8, script: &mut &[u8]) -> Kept {
        let mut is_contentious = false;
        let forge = &mut self.forged.to_session;
        let wire = match what {
            0..=3 => {
                let len =
                    [1, 100, 5000, 16_384][usize::from(what)] - usize::from(what > 0) * usize::from(next(script) % 90);
                let content: Vec<u8> = (0..len).map(|at| (at + self.said.len()) as u8).collect();
                self.said.extend_from_slice(&content);
                let padding = usize::from(next(script)).saturating_sub(200) * 4;
                forge.padded(DATA, &content, padding.min(16_384 - len))
            }
            4 => forge.padded(DATA, &[], usize::from(next(script))),
            5 => {
                let record = forge.record(HANDSHAKE, &key_update(next(script) % 3));
                forge.update();
                record
            }
            6 => forge.record(HANDSHAKE, &ticket()),
            7 => {
                let content =
                    [if next(script) & 7 == 0 { 3 } else { 1 }, [0, 90, 20, 112][usize::from(next(script) % 4)]];
                forge.record(ALERT, &content)
            }
            8 => {
                // Refused by its header, where rustls waits for the rest.
                is_contentious = true;
                let len = usize::from(next(script) % 12).min(script.len());
                let (content, rest) = script.split_at(len);
                *script = rest;
                forge.record(HANDSHAKE, content)
            }
            9 => {
                let kind = next(script);
                is_contentious = kind == ALERT || kind == HANDSHAKE;
                let inner = [vec![7; usize::from(next(script) % 4)], vec![kind]].concat();
                if kind == DATA {
                    self.said.extend(vec![7; inner.len() - 1]);
                }
                forge.seal(&inner)
            }
            _ => {
                let len = 16_380 + usize::from(next(script));
                let byte = if next(script) & 1 == 0 { 0 } else { DATA };
                self.said.extend(vec![DATA; if byte == DATA { len - 1 } else { 0 }]);
                forge.seal(&vec![byte; len])
            }
        };
        Kept { wire, is_contentious }
    }

    /// Changes the records on their way, or lets the session speak.
    fn meddle(&mut self, how: u8, script: &mut &[u8], kept: &mut Vec<Kept>) {
        if how == 11 {
            return self.answer();
        }
        let Some(mut last) = kept.pop().filter(|last| !last.wire.is_empty()) else { return };
        match how {
            12 => {
                let at = usize::from(next(script)) * (last.wire.len() - 1) / 255;
                let change = next(script).max(1);
                // rustls takes the header for what it should be.
                last.is_contentious |= at < 3;
                // A longer record would wait for more, and then fail; or be refused at once.
                if at != 3 && at != 4 {
                    last.wire[at] ^= change;
                }
                kept.push(last);
            }
            13 => kept.extend([last.clone(), last]),
            14 if !kept.is_empty() => {
                let at = kept.len() - 1;
                kept.insert(at, last);
            }
            14 => {}
            _ => {
                // By enough that what follows does not make up for it by chance.
                last.wire.truncate(last.wire.len().saturating_sub(8 + usize::from(next(script)) % 40));
                last.is_contentious = true;
                kept.push(last);
            }
        }
    }

    fn deliver(&mut self, record: &Kept) {
        if record.is_contentious && self.before_stricter.is_none() {
            self.before_stricter = Some(self.standing());
        }
        let mut rest = &record.wire[..];
        while !rest.is_empty() {
            let n = (self.steps.next() * 40).min(rest.len());
            self.incoming.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            self.hear();
        }
    }

    fn hear(&mut self) {
        let (mut room, mut protocol) = (vec![0; 700 + self.steps.next() * 50], Vec::new());
        while self.verdict.is_ok() {
            if self.in_runs && self.hear_run() {
                continue;
            }
            match self.forged.session.open(&mut self.incoming, &mut room, &mut protocol) {
                Ok(opened) => {
                    self.incoming.drain(..opened.consumed);
                    self.heard.extend_from_slice(&room[..opened.produced]);
                    self.is_closed = opened.state == OpenState::PeerClosed;
                    if opened.state != OpenState::PlainFull {
                        break;
                    }
                }
                Err(error) => self.verdict = Err(error),
            }
        }
        // rustls sends new keys with its alert.
        let told = self.forged.from_session.open(&protocol);
        let alerts = told.iter().filter(|(kind, _)| *kind != HANDSHAKE);
        assert!(alerts.clone().all(|(kind, content)| *kind == ALERT && content[0] == 2 && content.len() == 2));
        assert!(alerts.count() <= usize::from(self.verdict.is_err()), "{told:?}");
    }

    /// Whether a run had anything.
    fn hear_run(&mut self) -> bool {
        let limit = (self.steps.next() * 100) as u64;
        let Ok(run) = self.forged.session.open_run(&mut self.incoming, limit) else { return false };
        let mut slots = &self.incoming[..run.wire];
        let mut plain = 0;
        while !slots.is_empty() {
            let len = RECORD_HEAD_BYTES + usize::from(u16::from_be_bytes([slots[3], slots[4]]));
            self.heard.extend_from_slice(&slots[RECORD_HEAD_BYTES..len - RECORD_TAIL_BYTES]);
            plain += len - RECORD_HEAD_BYTES - RECORD_TAIL_BYTES;
            slots = &slots[len..];
        }
        assert!(plain == run.plain && plain as u64 <= limit && run.wire <= run.consumed);
        self.incoming.drain(..run.consumed);
        run.consumed > 0
    }

    /// The session speaks: what was due, and then data, as a slot or from elsewhere.
    fn answer(&mut self) {
        let text = b"answer";
        let mut wire = Vec::new();
        let sealed = if self.in_runs {
            let mut slot = [&[0, 0, 0, 0, (text.len() + RECORD_TAIL_BYTES) as u8], &text[..], &[0; 17]].concat();
            self.forged.session.seal_run(&mut slot, &mut wire).map(|()| wire.extend(slot))
        } else {
            let mut room = [0; 200];
            self.forged.session.seal(text, &mut room).map(|sealed| wire.extend_from_slice(&room[..sealed.written]))
        };
        match sealed {
            Ok(()) => {
                let answers = self.forged.from_session.open(&wire);
                assert_eq!(answers.last(), Some(&(DATA, text.to_vec())));
                self.answers.extend(answers);
            }
            Err(error) => assert_eq!(Err(error), self.verdict),
        }
    }

    fn must_have_heard_only_what_was_said(&self) {
        assert!(self.said.starts_with(&self.heard), "plaintext that nobody said");
    }
}

/// A small one (RFC 8446 §4.6.1): lifetime, age, nonce, ticket, no extensions.
pub(crate) fn ticket() -> Vec<u8> {
    let body = b"\x00\x00\x1c\x20\x01\x02\x03\x04\x01n\x00\x05thing\x00\x00";
    [&[4, 0, 0, body.len() as u8], &body[..]].concat()
}

/// A message in as many records as it has bytes.
#[allow(dead_code)]
pub(crate) fn in_pieces(forge: &mut Forge, message: &[u8]) -> Vec<u8> {
    message.iter().flat_map(|byte| forge.record(HANDSHAKE, &[*byte])).collect()
}
