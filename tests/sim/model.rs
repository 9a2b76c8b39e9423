//! A model of S3: objects by raw path, HTTP/1.1 with every mood the fault table allows, and a memory of everything it was
//! asked and everything it meant to answer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Pool;
use filmgate::clock::Deadline;
use filmgate::link::Link;
use filmgate::proxy::secure::{Secure, Wire};
use filmgate::tls::config::Version;

use crate::faults::Table;
use crate::link::{SimLink, World};
use crate::pki;
use crate::plan::{Framing, Planned, Skill, UPSTREAM_HOST, field, id_of};
use crate::rng::Rng;
use crate::wire::{Broken, Fields, Head, Reader, Stream, in_chunks, send, send_whole};

/// An answer as it was meant.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Without those of the connection.
    pub fields: Fields,
    /// What a client gets to see as body.
    pub body: Rc<Vec<u8>>,
    /// The length it announced.
    pub length: Option<usize>,
    /// Nothing but the end of the stream ends it.
    pub endless: bool,
}

/// One request that arrived.
#[derive(Debug)]
pub struct Attempt {
    /// Requests before it on the same connection.
    pub earlier: u64,
    /// The answer, once there is one.
    pub answer: Option<Answer>,
    /// The last byte of the answer was handed to the network.
    pub answered: bool,
    /// The object was stored, with exactly the planned bytes.
    pub stored: bool,
    /// It came over TLS.
    pub sealed: bool,
}

/// The storage.
pub struct Model {
    world: Rc<World>,
    table: Table,
    skill: Skill,
    planned: HashMap<u64, Rc<Planned>>,
    objects: RefCell<HashMap<Vec<u8>, Rc<Vec<u8>>>>,
    /// By request id.
    pub attempts: RefCell<HashMap<u64, Vec<Attempt>>>,
    serial: Cell<u64>,
    tls: Option<Version>,
    pool: Pool,
}

enum Next {
    Keep,
    Close,
    /// Bytes that answer nothing follow the answer: nobody may use the connection again.
    Stray,
}

impl Model {
    pub fn new(
        world: &Rc<World>,
        table: &Table,
        skill: Skill,
        tls: Option<Version>,
        planned: &[Rc<Planned>],
        rng: &Rng,
    ) -> Rc<Self> {
        let mut objects = HashMap::new();
        for request in planned.iter().filter(|request| request.method != "PUT") {
            if rng.chance(850) {
                let most = [100, 3_000, 3_000, table.body_bytes_max()][rng.below(4) as usize];
                objects.insert(path_of(&request.target).to_vec(), Rc::new(rng.bytes(rng.between(0, most))));
            }
        }
        Rc::new(Self {
            world: Rc::clone(world),
            table: table.clone(),
            skill,
            planned: planned.iter().map(|request| (request.id, Rc::clone(request))).collect(),
            objects: RefCell::new(objects),
            attempts: RefCell::default(),
            serial: Cell::new(0),
            tls,
            pool: Pool::new(0),
        })
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, link: SimLink, rng: Rng) {
        let link = match self.tls {
            None => Wire::Plain(link),
            Some(_) => match Secure::accept(link, &pki::server(), &self.pool, Deadline::NEVER).await {
                Ok(secure) => Wire::Tls(Box::new(secure)),
                Err(_) => return,
            },
        };
        let link = Rc::new(link);
        let mut strayed = false;
        let mut reader = Reader::new(Rc::clone(&link), None);
        for earlier in 0.. {
            let closes = earlier > 0 && rng.chance(self.table.idle_closes);
            let idle = Duration::from_millis(rng.below(6_000));
            let until = if closes { Deadline::after(idle) } else { Deadline::NEVER };
            let head = match reader.head(until).await {
                Ok(_) if strayed => return self.violation("a connection with stray bytes was used again"),
                Ok(head) => head,
                Err(Broken::Malformed(what)) => {
                    return self.violation(&format!("S3 was sent a malformed head: {what}"));
                }
                Err(_) => return,
            };
            let connection = Connection { model: &self, link: &link, rng: &rng, earlier };
            match connection.exchange(&mut reader, &head).await {
                Ok(Next::Keep) => {}
                Ok(Next::Stray) => strayed = true,
                Ok(Next::Close) => break,
                Err(_) => return,
            }
        }
        if rng.chance(self.table.hasty_closes) {
            return;
        }
        // An orderly end: FIN, then whatever still comes is read and thrown away.
        let _ = link.finish(Deadline::NEVER).await;
        let until = Deadline::after(Duration::from_secs(30));
        while reader.fill(until).await == Ok(true) {}
    }

    fn violation(&self, what: &str) {
        self.world.violation(what.to_owned());
    }

    fn object(&self, target: &[u8]) -> Option<Rc<Vec<u8>>> {
        self.objects.borrow().get(path_of(target)).cloned()
    }
}

/// One connection in the middle of an exchange.
struct Connection<'a> {
    model: &'a Model,
    link: &'a Stream,
    rng: &'a Rng,
    earlier: u64,
}

impl Connection<'_> {
    async fn exchange(&self, reader: &mut Reader, head: &Head) -> Result<Next, Broken> {
        let (model, table, rng) = (self.model, &self.model.table, self.rng);
        let known = id_of(&head.first[1]).and_then(|id| model.planned.get(&id));
        let Some(planned) = known.map(Rc::clone) else {
            model.violation(&format!("S3 was asked for {:?}", String::from_utf8_lossy(&head.first[1])));
            return Ok(Next::Close);
        };
        let index = self.remember(&planned);
        self.check(&planned, head);
        let early = planned.framing != Framing::None && rng.chance(table.early_refusals);
        if early {
            let answer = self.refusal(rng.chance(500));
            let close = rng.chance(500);
            let next = self.answer(&planned, index, answer, close).await?;
            if !table.calm && rng.chance(500) {
                return Ok(Next::Close);
            }
            if matches!(next, Next::Close) {
                // The answer may be one that only the end of the stream ends.
                let _ = self.link.finish(Deadline::NEVER).await;
            }
            self.body(reader, head).await?;
            return Ok(next);
        }
        if head.has_token("expect", "100-continue") && rng.chance(700) {
            send(self.link, rng, b"HTTP/1.1 100 Continue\r\n\r\n", Deadline::NEVER).await?;
        }
        let body = self.body(reader, head).await?;
        if rng.chance(table.slow_answers) {
            let slowest = if table.calm { 50_000 } else { 200_000 };
            tokio::time::sleep(Duration::from_millis(rng.below(slowest))).await;
        }
        if rng.chance(table.hints) {
            send(self.link, rng, rng.pick(INTERIM).as_bytes(), Deadline::NEVER).await?;
        }
        if rng.chance(table.nonsense_answers) {
            let nonsense = NONSENSE[rng.below(NONSENSE.len() as u64) as usize];
            send(self.link, rng, nonsense, Deadline::NEVER).await?;
            return Ok(if rng.chance(500) { Next::Close } else { Next::Stray });
        }
        let answer = if rng.chance(table.server_errors) {
            self.refusal(true)
        } else if planned.method == "PUT" {
            self.store(&planned, index, body)
        } else {
            self.fetch(&planned, head)
        };
        let close = rng.chance(150);
        self.answer(&planned, index, answer, close).await
    }

    fn remember(&self, planned: &Planned) -> usize {
        let mut attempts = self.model.attempts.borrow_mut();
        let attempts = attempts.entry(planned.id).or_default();
        attempts.push(Attempt {
            earlier: self.earlier,
            answer: None,
            answered: false,
            stored: false,
            sealed: self.model.tls.is_some(),
        });
        attempts.len() - 1
    }

    fn with_attempt(&self, planned: &Planned, index: usize, change: impl FnOnce(&mut Attempt)) {
        change(&mut self.model.attempts.borrow_mut().get_mut(&planned.id).unwrap()[index]);
    }

    /// The request must be the planned one, and nothing may have been added that S3 would want signed.
    fn check(&self, planned: &Planned, head: &Head) {
        let model = self.model;
        let wrong = |what: String| model.violation(&format!("request {}: {what}", planned.id));
        if head.first[0] != planned.method.as_bytes() || head.first[2] != b"HTTP/1.1" {
            wrong(format!("first line {:?}", head.first.each_ref().map(|part| String::from_utf8_lossy(part))));
        }
        if head.first[1] != planned.target {
            wrong(format!("target {:?} is not {:?}", String::from_utf8_lossy(&head.first[1]), planned.target));
        }
        if model.skill == Skill::Bytes {
            return;
        }
        if head.all("host").collect::<Vec<_>>() != [UPSTREAM_HOST.as_bytes()] {
            wrong("the Host that was signed is not the one that was sent".to_owned());
        }
        let own = ["host", "connection", "content-length", "transfer-encoding", "expect"];
        let is_own = |name: &[u8]| own.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        let sent: Vec<_> = head.fields.iter().filter(|(name, _)| !is_own(name)).collect();
        let meant: Vec<_> = planned.fields.iter().filter(|(name, _)| planned.keeps(name)).collect();
        if sent != meant {
            wrong(format!("fields {:?} are not {:?}", show(&sent), show(&meant)));
        }
        match head.length() {
            Ok(None) if planned.framing != Framing::None => wrong("an upload without a length".to_owned()),
            Ok(Some(n)) if n != planned.body.len() => wrong(format!("length {n} is not {}", planned.body.len())),
            Err(error) => wrong(format!("{error:?}")),
            _ => {}
        }
        if head.get("transfer-encoding").is_some() {
            wrong("S3 answers 501 to a chunked request".to_owned());
        }
    }

    async fn body(&self, reader: &mut Reader, head: &Head) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        if head.has_token("transfer-encoding", "chunked") {
            reader.chunked(&mut body, Deadline::NEVER).await?;
        } else {
            reader.exactly(head.length()?.unwrap_or(0), &mut body, Deadline::NEVER).await?;
        }
        Ok(body)
    }

    fn store(&self, planned: &Planned, index: usize, body: Vec<u8>) -> Answer {
        let same = body == *planned.body;
        if !same {
            self.model.violation(&format!("request {}: other bytes than the client's were stored", planned.id));
        }
        self.with_attempt(planned, index, |attempt| attempt.stored = same);
        let etag = format!("\"{:016x}\"", body.len());
        self.model.objects.borrow_mut().insert(path_of(&planned.target).to_vec(), Rc::new(body));
        self.make(200, vec![field("ETag", &etag)], Rc::default())
    }

    fn fetch(&self, planned: &Planned, head: &Head) -> Answer {
        if planned.method == "OPTIONS" {
            let allow = field("Access-Control-Allow-Origin", "https://studio.sim.test");
            return self.make(200, vec![allow, field("Vary", "Origin"), field("Vary", "Range")], Rc::default());
        }
        if head.get("if-none-match").is_some() {
            return self.make(304, vec![field("ETag", "\"same\"")], Rc::default());
        }
        let Some(object) = self.model.object(&planned.target) else {
            return self.error(404, "NoSuchKey");
        };
        let fields =
            vec![field("ETag", "\"abc\""), field("Accept-Ranges", "bytes"), field("Content-Type", "video/mp4")];
        match head.get("range").and_then(|range| range_of(range, object.len())) {
            Some((from, to)) => {
                let mut fields = fields;
                fields.push(field("Content-Range", &format!("bytes {from}-{to}/{}", object.len())));
                self.make(206, fields, Rc::new(object[from..=to].to_vec()))
            }
            None => self.make(200, fields, object),
        }
    }

    fn refusal(&self, ours: bool) -> Answer {
        match (ours, self.rng.chance(500)) {
            (true, true) => self.error(500, "InternalError"),
            (true, false) => self.error(503, "SlowDown"),
            (false, _) => self.error(403, "AccessDenied"),
        }
    }

    fn error(&self, status: u16, code: &str) -> Answer {
        let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code></Error>");
        self.make(status, vec![field("Content-Type", "application/xml")], Rc::new(xml.into_bytes()))
    }

    fn make(&self, status: u16, mut fields: Fields, body: Rc<Vec<u8>>) -> Answer {
        self.model.serial.set(self.model.serial.get() + 1);
        fields.insert(0, field("x-amz-request-id", &format!("{:016X}", self.model.serial.get())));
        fields.insert(0, field("x-amz-id-2", "a+b/c="));
        fields.push(field("Server", "AmazonS3"));
        Answer { status, fields, body, length: None, endless: false }
    }

    /// Chooses a framing, remembers the answer and sends it.
    async fn answer(&self, planned: &Planned, index: usize, mut answer: Answer, close: bool) -> Result<Next, Broken> {
        let rng = self.rng;
        let bodiless = answer.status == 304 || answer.status == 204;
        let chunked = !bodiless && rng.chance(self.model.table.chunked_answers);
        answer.endless = !bodiless && !chunked && rng.chance(self.model.table.endless_answers);
        if !bodiless && !chunked && !answer.endless {
            answer.length = Some(answer.body.len());
        }
        let close = close || answer.endless;
        let wire = if chunked { in_chunks(&answer.body, rng) } else { answer.body.to_vec() };
        let mut message = format!("HTTP/1.1 {} Some Reason\r\n", answer.status).into_bytes();
        for (name, value) in &answer.fields {
            message.extend_from_slice(&[name, b": ".as_slice(), value, b"\r\n"].concat());
        }
        if let Some(length) = answer.length {
            message.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        if chunked {
            message.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if close {
            message.extend_from_slice(b"Connection: close\r\n");
        }
        message.extend_from_slice(b"\r\n");
        if planned.method == "HEAD" || bodiless {
            answer.body = Rc::default();
            answer.endless = false;
        } else {
            message.extend_from_slice(&wire);
        }
        // Only where they arrive together with the answer can they be told from an answer to the next request.
        let strays =
            !close && message.len() < 60_000 && self.model.table.is_swift() && rng.chance(self.model.table.stray_bytes);
        if strays {
            message.extend_from_slice(b"HTTP/1.1 200 Stray\r\nContent-Length: 0\r\n\r\n");
        }
        self.with_attempt(planned, index, |attempt| attempt.answer = Some(answer));
        if strays {
            send_whole(self.link, &message).await?;
        } else {
            send(self.link, rng, &message, Deadline::NEVER).await?;
        }
        self.with_attempt(planned, index, |attempt| attempt.answered = true);
        if strays {
            return Ok(Next::Stray);
        }
        Ok(if close { Next::Close } else { Next::Keep })
    }
}

/// Responses that come before the response.
const INTERIM: &[&str] = &[
    "HTTP/1.1 102 Processing\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
];

/// What no client may get to see as an answer.
const NONSENSE: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
    b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"<html>not HTTP</html>\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
];

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|&b| b == b'?').next().unwrap_or_default()
}

/// `bytes=a-` and `bytes=a-b` inside an object of `n` bytes; `None` for the whole.
fn range_of(value: &[u8], n: usize) -> Option<(usize, usize)> {
    let (from, to) = std::str::from_utf8(value).ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = to.parse().unwrap_or(usize::MAX).min(n.checked_sub(1)?);
    (from <= to).then_some((from, to))
}

fn show<'a>(fields: &[&'a (Vec<u8>, Vec<u8>)]) -> Vec<std::borrow::Cow<'a, str>> {
    fields.iter().flat_map(|(name, value)| [String::from_utf8_lossy(name), String::from_utf8_lossy(value)]).collect()
}
