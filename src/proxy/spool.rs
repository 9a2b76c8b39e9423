//! Length-less request bodies, held until their length is known.
//!
//! S3 answers 501 to a chunked upload (`Transfer-Encoding` without a length), so a body that does not say how long it is
//! waits here, decoded and bounded, and goes on with a `Content-Length`.

use crate::buffer::{Buffer, Pool};
use crate::clock;
use crate::http::body::Reader;
use crate::limits;
use crate::link::Link;
use crate::proxy::Timeouts;
use crate::proxy::failure::{ClientFault, Failure};
use crate::proxy::relay::Pace;
use crate::proxy::secure::Wire;

/// A spooled body.
pub struct Spooled {
    /// The body without its chunked coding.
    pub data: Vec<u8>,
    /// Bytes of `first` that belonged to the body.
    pub first_used: usize,
    /// What the client sent behind the body, if that was not in `first`.
    pub leftover: Option<Buffer>,
    /// Bytes of the body that were left with the client.
    pub to_come: u64,
}

impl Spooled {
    /// Bytes of the whole body.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.data.len() as u64 + self.to_come
    }
}

/// Reads a chunked body to its end. `first` is what came along with the head.
///
/// # Errors
/// `LengthRequired` when spooling is off, `SpoolExceeded` past `bytes_max`, or what the client did wrong.
pub async fn read<L: Link>(
    client: &Wire<L>,
    buffers: &Pool,
    timeouts: &Timeouts,
    reader: Reader,
    first: &[u8],
    bytes_max: usize,
) -> Result<Spooled, Failure> {
    if bytes_max == 0 {
        return Err(ClientFault::LengthRequired.into());
    }
    read_until(client, buffers, timeouts, reader, first, bytes_max, |_| Ok(false)).await
}

/// Reads a body until `is_enough` of what there is, or to its end.
///
/// # Errors
/// As [`read`], and as `is_enough`.
pub async fn read_until<L: Link>(
    client: &Wire<L>,
    buffers: &Pool,
    timeouts: &Timeouts,
    mut reader: Reader,
    first: &[u8],
    bytes_max: usize,
    mut is_enough: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<Spooled, Failure> {
    // Memory that grows with what comes would be up to three times as much while it does.
    let announced = reader.remaining().unwrap_or(0).min(bytes_max as u64);
    let mut data = Vec::with_capacity(announced as usize);
    let first_used = decode(&mut reader, first, &mut data, bytes_max)?;
    let mut leftover = None;
    let mut buffer = buffers.take();
    let mut pace = Pace::default();
    while !reader.finished() && !is_enough(&data)? {
        let asked = clock::mono();
        let (result, back) = client.read(buffer, pace.deadline(asked, timeouts.client_body)).await;
        buffer = back;
        match result {
            Ok(0) => return Err(ClientFault::BodyIncomplete.into()),
            Ok(n) => pace.took(n, asked),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Err(ClientFault::BodyTimedOut.into()),
            Err(_) => return Err(ClientFault::Gone.into()),
        }
        let used = decode(&mut reader, buffer.filled(), &mut data, bytes_max)?;
        buffer.consume(used);
        if reader.finished() && !buffer.is_empty() {
            leftover = Some(std::mem::replace(&mut buffer, Buffer::detached(0)));
        }
    }
    let to_come = reader.remaining().unwrap_or(0);
    Ok(Spooled { data, first_used, leftover, to_come })
}

fn decode(reader: &mut Reader, input: &[u8], data: &mut Vec<u8>, bytes_max: usize) -> Result<usize, Failure> {
    let mut used = 0;
    while used < input.len() && !reader.finished() {
        let piece = reader.advance(&input[used..]).map_err(|_| ClientFault::BodyMalformed)?;
        let run = &input[used..][piece.data];
        if data.len() + run.len() > bytes_max {
            return Err(ClientFault::SpoolExceeded.into());
        }
        data.extend_from_slice(run);
        used += piece.consumed;
    }
    Ok(used)
}

const _: () = assert!(limits::SPOOL_BYTES_MAX <= limits::SHARD_BUFFER_BYTES / 16);
