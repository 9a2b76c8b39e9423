//! A relay of bytes in place of the gate: it shows that the harness accepts what is right, and that it notices what is
//! wrong when the relay is told to do wrong.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::Deadline;
use filmgate::link::{Dial, Link};

use crate::dial::SimDial;
use crate::link::SimLink;
use crate::{Line, Seed};

/// What the relay does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    None,
    /// Changes one byte of a request.
    SpoilRequest,
    /// Changes one byte of a response body.
    SpoilResponse,
    /// Makes a broken response look whole by filling it up.
    PadResponse,
    /// Says that an upload went well without asking.
    LieAboutUpload,
    /// Drops a read in flight.
    DropRead,
    /// Keeps an upstream connection for ever.
    Leak,
    /// Never ends.
    Hang,
}

impl Mistake {
    pub const ALL: [Self; 7] = [
        Self::SpoilRequest,
        Self::SpoilResponse,
        Self::PadResponse,
        Self::LieAboutUpload,
        Self::DropRead,
        Self::Leak,
        Self::Hang,
    ];
}

pub struct Relay {
    dial: SimDial,
    mistake: Mistake,
    leaked: Cell<Vec<Rc<SimLink>>>,
}

impl Relay {
    pub fn new(seed: &Seed, mistake: Mistake) -> Rc<Self> {
        Rc::new(Self { dial: seed.dial(), mistake, leaked: Cell::default() })
    }
}

impl Line for Relay {
    async fn serve(self: Rc<Self>, client: SimLink) {
        let client = Rc::new(client);
        if self.mistake == Mistake::LieAboutUpload {
            return lie(&client).await;
        }
        let Ok(upstream) = self.dial.dial(0, patience()).await else {
            client.abort();
            return;
        };
        let upstream = Rc::new(upstream);
        if self.mistake == Mistake::DropRead {
            let read = upstream.read(Buffer::detached(100), patience());
            let _ = tokio::time::timeout(Duration::ZERO, read).await;
        }
        let up = async {
            let spoiled = (self.mistake == Mistake::SpoilRequest).then_some(b"GET /");
            match pump(&client, &upstream, spoiled).await {
                Ended::Source => drop(upstream.finish(patience()).await),
                Ended::BrokenSource => upstream.abort(),
                Ended::Sink => discard(&client).await,
            }
        };
        let down = async {
            let spoiled = (self.mistake == Mistake::SpoilResponse).then_some(b"ETag\x3a");
            let ended = pump(&upstream, &client, spoiled).await;
            if self.mistake == Mistake::PadResponse {
                let mut padding = Buffer::detached(500_000);
                padding.commit(500_000);
                let _ = client.write_all(padding, patience()).await;
            }
            match ended {
                Ended::Source => drop(client.finish(patience()).await),
                Ended::BrokenSource => client.abort(),
                Ended::Sink => upstream.abort(),
            }
        };
        tokio::join!(up, down);
        match self.mistake {
            Mistake::Leak => self.leaked.set(vec![upstream]),
            Mistake::Hang => std::future::pending().await,
            _ => {}
        }
    }
}

/// Longer than anything in a calm world takes; a stalled peer is given up.
fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(400))
}

/// Why a pump stopped.
enum Ended {
    Source,
    BrokenSource,
    Sink,
}

/// Copies until either side ends. With a mark, a byte behind it is changed.
async fn pump(from: &SimLink, to: &SimLink, mark: Option<&[u8; 5]>) -> Ended {
    let mut buffer = Buffer::detached(8 * 1024);
    loop {
        let (result, mut filled) = from.read(buffer, patience()).await;
        match result {
            Ok(0) => return Ended::Source,
            Ok(_) => {}
            Err(_) => return Ended::BrokenSource,
        }
        let bytes = filled.filled_mut();
        let marked = mark.and_then(|mark| bytes.windows(5).position(|w| w == mark));
        if let Some(byte) = marked.and_then(|at| bytes.get_mut(at + 7)) {
            *byte ^= 1;
        }
        let (result, empty) = to.write_all(filled, patience()).await;
        if result.is_err() {
            return Ended::Sink;
        }
        buffer = empty;
    }
}

/// Reads to the end so that what was sent before is not lost to an RST.
async fn discard(from: &SimLink) {
    let mut buffer = Buffer::detached(8 * 1024);
    while let (Ok(1..), mut read) = from.read(buffer, patience()).await {
        read.clear();
        buffer = read;
    }
}

async fn lie(client: &SimLink) {
    let buffer = Buffer::detached(64 * 1024);
    let (_, mut buffer) = client.read(buffer, patience()).await;
    buffer.clear();
    buffer.append(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = client.write_all(buffer, patience()).await;
    let _ = client.finish(patience()).await;
    discard(client).await;
}
