//! What must hold for every request of every seed.

use std::rc::Rc;
use std::time::Duration;

use filmgate::access::{AccessRecord, Said};

use crate::client::Outcome;
use crate::faults::Table;
use crate::link::World;
use crate::model::{Answer, Attempt, Model};
use crate::plan::{Framing, Kind, Planned, Session};
use crate::wire::{Broken, Fields, Head};

/// Judges one session. `calm`: nothing went wrong in this world, so nothing may have gone wrong for the client.
pub fn session(world: &World, model: &Model, session: &Session, outcomes: &[Outcome], calm: bool) {
    // These do not read while they write, or have earlier answers before them.
    let prompt = !session.stubborn && !session.pipelined;
    let mut previous: Option<(&Rc<Planned>, &Outcome)> = None;
    for (request, outcome) in session.requests.iter().zip(outcomes) {
        world.trace(|| format!("request {}: {}", request.id, summary(outcome)));
        let judged = judge(model, request, outcome, calm, prompt, previous);
        if let Err(what) = judged {
            let line = format!(
                "{} {:?}",
                request.method,
                String::from_utf8_lossy(&request.target[..request.target.len().min(80)])
            );
            world.violation(format!("request {} ({line}): {what}", request.id));
        }
        previous = Some((request, outcome));
    }
}

/// An upload that arrived whole costs nobody a connection.
pub fn connections(world: &World, model: &Model, session: &Session, outcomes: &[Outcome]) {
    let attempts = model.attempts.borrow();
    for (request, outcome) in session.requests.iter().zip(outcomes) {
        let attempts = attempts.get(&request.id).map_or(&[][..], Vec::as_slice);
        let is_closed = matches!(outcome, Outcome::Complete { head, .. } if head.has_token("connection", "close"));
        if is_closed && is_whole_upload(request, attempts) {
            world.violation(format!("request {}: its connection was closed without a reason", request.id));
        }
    }
}

/// Exactly one access record an exchange.
pub fn records(world: &World, records: &[AccessRecord], outcomes: &[Outcome], table: &Table) {
    let calm = table.calm;
    let complete = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Complete { .. })).count();
    // What was sent ahead of a break may have been served all the same.
    let most = if calm { complete } else { outcomes.len() };
    if records.len() < complete || records.len() > most {
        let said: Vec<_> =
            records.iter().map(|r| (r.status, r.failure, r.said(Said::Method).map(str::to_owned))).collect();
        world.violation(format!("{} records of {complete} to {most} exchanges: {said:?}", records.len()));
    }
    let mut ids: Vec<String> = records.iter().filter_map(|r| r.id).map(|id| id.to_string()).collect();
    ids.sort();
    ids.dedup();
    if ids.len() != records.len() {
        world.violation(format!("{} ids for {} records", ids.len(), records.len()));
    }
    // Where no client's connection breaks, what the record calls whole has arrived whole.
    let whole = records.iter().filter(|record| record.failure.is_none()).count();
    if table.client_cuts == 0 && whole > complete {
        world.violation(format!("{whole} records without a failure for {complete} whole responses"));
    }
    let mut said: Vec<_> = records.iter().filter_map(|record| record.status).collect();
    let mut seen: Vec<_> = outcomes.iter().filter_map(status).collect();
    said.sort_unstable();
    seen.sort_unstable();
    if calm && said != seen {
        world.violation(format!("records say {said:?}, clients saw {seen:?}"));
    }
}

fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete { head, body, .. } => format!("{} with {} bytes", head.status(), body.len()),
        Outcome::Broken { why, head, body } => {
            format!("{why:?}, {:?}, {} bytes", head.as_ref().map(Head::status), body.len())
        }
        Outcome::Unanswered => "unanswered".to_owned(),
    }
}

fn status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Complete { head, .. } => Some(head.status()),
        Outcome::Broken { head, .. } => head.as_ref().map(Head::status),
        Outcome::Unanswered => None,
    }
}

fn judge(
    model: &Model,
    request: &Planned,
    outcome: &Outcome,
    calm: bool,
    prompt: bool,
    previous: Option<(&Rc<Planned>, &Outcome)>,
) -> Result<(), String> {
    let attempts = model.attempts.borrow();
    let attempts = attempts.get(&request.id).map_or(&[][..], Vec::as_slice);
    repeats(request, attempts)?;
    match outcome {
        Outcome::Complete { head, body, .. } if is_ours(head) => ours(request, head, body, calm),
        Outcome::Complete { head, .. } if request.kind == Kind::Ping => {
            let good = head.status() == 200 && head.get("content-type").is_some_and(|t| t.starts_with(b"text/plain"));
            if good { Ok(()) } else { Err(format!("ping was answered {}", head.status())) }
        }
        Outcome::Complete { .. } if request.kind != Kind::Media => {
            Err("the gate's own answer is not marked".to_owned())
        }
        Outcome::Complete { head, body, head_at } => {
            complete(request, attempts, head, body)?;
            let late = attempts.iter().filter_map(|attempt| attempt.answered_at).map(|at| *head_at - at).max();
            let is_late = calm && prompt && late.is_some_and(|late| late > PROMPT);
            if is_late { Err(format!("S3's answer was held back for {late:?}")) } else { Ok(()) }
        }
        Outcome::Broken { why: Broken::Malformed(what), .. } => Err(format!("malformed response: {what}")),
        Outcome::Broken { why, head, body } => {
            broken(attempts, head.as_ref(), body)?;
            let excused = !calm || request.kind == Kind::Malformed;
            if excused { Ok(()) } else { Err(format!("broken off ({why:?}) though nothing went wrong")) }
        }
        Outcome::Unanswered => {
            let closed = match previous {
                None => false,
                Some((_, Outcome::Complete { head, .. })) if head.has_token("connection", "close") => true,
                // Refused before its body: the client does not send the rest on this connection.
                Some((before, Outcome::Complete { .. })) => before.expect,
                Some((_, Outcome::Unanswered | Outcome::Broken { .. })) => true,
            };
            if !calm || closed { Ok(()) } else { Err("never answered though nothing went wrong".to_owned()) }
        }
    }
}

/// Whether nothing about this upload is a reason to close the client's connection.
fn is_whole_upload(request: &Planned, attempts: &[Attempt]) -> bool {
    let stays = !request.close && !request.old && !request.expect && request.framing != Framing::None;
    stays && attempts.iter().any(|attempt| attempt.stored && attempt.answer.as_ref().is_some_and(|a| !a.endless))
}

/// A request reaches S3 once, or twice when the first time was on a used connection that turned out to be dead.
fn repeats(request: &Planned, attempts: &[Attempt]) -> Result<(), String> {
    if request.kind != Kind::Media && !attempts.is_empty() {
        return Err("S3 saw what was not meant for it".to_owned());
    }
    if attempts.len() > 2 {
        return Err(format!("S3 was asked {} times", attempts.len()));
    }
    match attempts {
        [first, _] if first.earlier == 0 => Err("repeated although the connection was new".to_owned()),
        [first, _] if first.was_heard() => Err("repeated although an answer had begun".to_owned()),
        _ => Ok(()),
    }
}

/// An answer that the gate made itself: S3's shape, clearly marked, never good news.
fn ours(request: &Planned, head: &Head, body: &[u8], calm: bool) -> Result<(), String> {
    let status = head.status();
    let wanted = match request.kind {
        Kind::Stranger => status == 421 || (!calm && status == 408),
        Kind::Malformed => (400..500).contains(&status) || status == 501,
        Kind::Ping => status == 200,
        Kind::Media => status >= 400 && !calm,
    };
    if !wanted {
        return Err(format!("the gate itself answered {status}: {}", String::from_utf8_lossy(body)));
    }
    if request.kind == Kind::Ping {
        return Ok(());
    }
    if head.get("content-type") != Some(b"application/xml") {
        return Err(format!("the gate's {status} is not application/xml"));
    }
    let text = String::from_utf8_lossy(body);
    if request.method != "HEAD" && !(text.starts_with("<?xml") && text.contains("<Code>") && text.contains("<Message>"))
    {
        return Err(format!("the gate's {status} is not in S3's shape: {text}"));
    }
    Ok(())
}

/// A whole response must be one that S3 gave to this request.
fn complete(request: &Planned, attempts: &[Attempt], head: &Head, body: &[u8]) -> Result<(), String> {
    let answers = attempts.iter().filter_map(|attempt| Some((attempt, attempt.answer.as_ref()?)));
    let mut reasons = Vec::new();
    for (attempt, answer) in answers {
        match same(request, attempt, answer, head, body) {
            Ok(()) if request.method == "PUT" && head.status() / 100 == 2 && !attempt.stored => {
                return Err(format!("{} for an upload that S3 has not stored", head.status()));
            }
            Ok(()) => return Ok(()),
            Err(why) => reasons.push(why),
        }
    }
    Err(format!("not S3's answer: status {}, {} bytes: {reasons:?}", head.status(), body.len()))
}

fn same(request: &Planned, attempt: &Attempt, answer: &Answer, head: &Head, body: &[u8]) -> Result<(), String> {
    if head.status() != answer.status {
        return Err(format!("status {} is not {}", head.status(), answer.status));
    }
    if head.first[2] != b"Some Reason" {
        return Err("another reason phrase".to_owned());
    }
    let fields = end_to_end(&head.fields);
    if fields != answer.fields {
        return Err(format!("fields {fields:?} are not {:?}", answer.fields));
    }
    let length = head.length().map_err(|error| format!("{error:?}"))?;
    let length_kept = match answer.length {
        Some(_) => length == answer.length,
        None => length.is_none_or(|length| request.method != "HEAD" && length == body.len()),
    };
    if !length_kept {
        return Err(format!("length {length:?} is not {:?}", answer.length));
    }
    // An answer that only the end of the stream ends cannot be told from its own truncation by FIN, but for TLS.
    let truncated = answer.endless && !attempt.sealed && !attempt.answered && answer.body.starts_with(body);
    if body != *answer.body && !truncated {
        return Err(format!("a body of {} bytes is not the one of {} bytes", body.len(), answer.body.len()));
    }
    Ok(())
}

/// What came before a break must still be the beginning of what S3 said.
fn broken(attempts: &[Attempt], head: Option<&Head>, body: &[u8]) -> Result<(), String> {
    let Some(head) = head.filter(|head| !is_ours(head)) else { return Ok(()) };
    let answers = attempts.iter().filter_map(|attempt| attempt.answer.as_ref());
    let mut fitting = answers.filter(|answer| answer.status == head.status() && answer.body.starts_with(body));
    match fitting.next() {
        Some(_) => Ok(()),
        None => Err(format!("{} bytes before the break are not S3's", body.len())),
    }
}

fn is_ours(head: &Head) -> bool {
    head.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with(b"x-filmgate-"))
}

/// Virtual time an answer may take through the gate, windows and delays of a calm world included.
const PROMPT: Duration = Duration::from_secs(5);

/// The fields that are not about the connection.
fn end_to_end(fields: &Fields) -> Fields {
    let hop = ["connection", "keep-alive", "transfer-encoding", "content-length", "trailer", "date"];
    let is_hop = |name: &[u8]| hop.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()));
    fields.iter().filter(|(name, _)| !is_hop(name)).cloned().collect()
}
