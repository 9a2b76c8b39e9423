//! One connection of the load and the exchange on it.

use std::net::TcpStream;
use std::time::Instant;

use super::{Tally, Target};
use crate::Failure;
use crate::connection::{Arrival, Connection, Scratch};
use crate::head;
use crate::poll::Poll;
use crate::session::Session;

pub(crate) struct Lane {
    connection: Connection,
    counted: bool,
    /// When the request under way was due.
    since: Option<Instant>,
    /// Whether its head was sent, and how much of its body.
    asked: bool,
    uploaded: u64,
    response: Response,
}

#[derive(Default)]
struct Response {
    head: Vec<u8>,
    /// The length of the body, once the head is there.
    length: Option<u64>,
    came: u64,
}

impl Lane {
    pub(crate) fn connect(target: &Target, poll: &Poll, number: usize) -> Result<Lane, Failure> {
        let socket = TcpStream::connect(target.address)?;
        let session = target.tls.as_ref().map(|config| Session::client(config, &target.name)).transpose()?;
        Ok(Lane {
            connection: Connection::new(socket, session, poll, number)?,
            counted: false,
            since: None,
            asked: false,
            uploaded: 0,
            response: Response::default(),
        })
    }

    /// Gives the lane a request that was due at `since`; [`Lane::start`] or [`Lane::advance`] sends it.
    pub(crate) fn due(&mut self, since: Instant) {
        self.since = Some(since);
    }

    pub(crate) fn busy(&self) -> bool {
        self.since.is_some()
    }

    /// How far the exchange came, for a person.
    pub(crate) fn state(&self) -> String {
        let Response { length, came, .. } = &self.response;
        let held = self.connection.held();
        format!("{} uploaded, {came} of {length:?} received and {held:?} held back in or out", self.uploaded)
    }

    /// Goes on with the exchange; when it is over, says when it was due.
    pub(crate) fn advance(
        &mut self,
        target: &Target,
        poll: &Poll,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) -> Result<Option<Instant>, Failure> {
        if self.busy() && self.connection.established && !(self.asked && self.uploaded == target.upload) {
            self.start(target, poll, scratch, tally)?;
            return Ok(None);
        }
        self.connection.flush()?;
        self.receive(target, scratch, tally)?;
        if !self.asked {
            self.start(target, poll, scratch, tally)?;
            return if self.connection.closed { Err("the connection was closed early".into()) } else { Ok(None) };
        }
        self.connection.settle(poll, false)?;
        let over = self.response.length.is_some_and(|length| self.response.came == length);
        if !over {
            return if self.connection.closed { Err("the connection was closed early".into()) } else { Ok(None) };
        }
        self.response.length = None;
        self.response.head.clear();
        self.response.came = 0;
        self.asked = false;
        self.uploaded = 0;
        Ok(self.since.take())
    }

    /// Sends what can be sent of the request.
    pub(crate) fn start(
        &mut self,
        target: &Target,
        poll: &Poll,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        if self.since.is_none() || !self.connection.established {
            return Ok(());
        }
        if !self.asked {
            self.asked = true;
            self.connection.send(&target.request)?;
        }
        if self.uploaded < target.upload {
            let left = target.upload - self.uploaded;
            let taken = self.connection.send_body(&scratch.pattern, self.uploaded, left)?;
            self.uploaded += taken;
            tally.bytes += taken;
        }
        self.connection.settle(poll, self.uploaded < target.upload)
    }

    /// Whether the peer has closed the connection, which had no request under way.
    pub(crate) fn lost(&mut self, scratch: &mut Scratch) -> bool {
        self.connection.receive(scratch, 0, &mut |_, _| {}).is_err() || self.connection.closed
    }

    fn receive(&mut self, target: &Target, scratch: &mut Scratch, tally: &mut Tally) -> Result<(), Failure> {
        let Lane { connection, response, .. } = self;
        let missing = response.length.map_or(0, |length| length - response.came);
        let before = response.came;
        let mut failure: Option<String> = None;
        connection.receive(scratch, missing, &mut |pattern, arrival| match arrival {
            Arrival::Skipped(count) => response.came += count,
            Arrival::Bytes(bytes) => {
                let body = match response.length {
                    Some(_) => bytes,
                    None => match response.open(bytes, target.download) {
                        Ok(rest) => rest,
                        Err(text) => {
                            failure = Some(text);
                            return;
                        }
                    },
                };
                if response.came + body.len() as u64 > response.length.unwrap_or(0) {
                    failure = Some("bytes behind the response".to_owned());
                } else if !pattern.matches(response.came, body) {
                    failure = Some(format!("wrong bytes at {} of the body", response.came));
                }
                response.came += body.len() as u64;
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        if target.upload == 0 {
            tally.bytes += response.came - before;
        }
        if !self.counted && self.connection.established {
            self.counted = true;
            match self.connection.resumed() {
                Some(true) => tally.resumed_handshakes += 1,
                Some(false) => tally.full_handshakes += 1,
                None => {}
            }
        }
        Ok(())
    }
}

impl Response {
    /// Takes bytes of the head; returns those behind it. A head that is not the one that was asked for is an error.
    fn open<'a>(&mut self, bytes: &'a [u8], expected: u64) -> Result<&'a [u8], String> {
        let old = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = head::end(&self.head) else {
            return if self.head.len() > head::LONGEST { Err("a head has no end".to_owned()) } else { Ok(&[]) };
        };
        self.head.truncate(end);
        let line = head::first_line(&self.head);
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("answered {line:?}"));
        }
        let length = head::content_length(&self.head);
        if length.unwrap_or(0) != expected {
            return Err(format!("a body of {length:?} bytes instead of {expected}"));
        }
        self.length = Some(expected);
        Ok(&bytes[end - old..])
    }
}
