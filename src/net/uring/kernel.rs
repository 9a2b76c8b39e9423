//! What a stream does besides when the kernel protects its TLS records.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::{Stream, Way, sys};
use crate::clock::Deadline;
use crate::link::{Direction, NotData, RecordKey};
use crate::tls::TlsError;

/// What the kernel's TLS has to do with a stream.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum InKernel {
    #[default]
    Nothing,
    /// It protects the records.
    Keys,
    /// It did, or was to; nothing more is sent, not even a FIN.
    BrokenOff,
}

impl Stream {
    pub(super) fn has_keys(&self) -> bool {
        self.in_kernel.get() == InKernel::Keys
    }

    pub(super) fn take_over_records(&self, send: &RecordKey<'_>, receive: &RecordKey<'_>) -> io::Result<bool> {
        let set = |direction| {
            let key = if direction == Direction::Send { send } else { receive };
            sys::set_record_key(&*self.socket, direction, key)
        };
        self.take_over_with(|| sys::attach_tls(&*self.socket), set)
    }

    /// `attach` and `set` are what the kernel is asked to do.
    fn take_over_with(
        &self,
        attach: impl FnOnce() -> io::Result<()>,
        set: impl Fn(Direction) -> io::Result<()>,
    ) -> io::Result<bool> {
        if let Err(error) = attach().and_then(|()| set(Direction::Send)) {
            tracing::debug!(%error, "the kernel does not take a TLS connection");
            return Ok(false);
        }
        set(Direction::Receive)?;
        self.in_kernel.set(InKernel::Keys);
        Ok(true)
    }

    /// What an error of a receive means where the kernel protects the records.
    pub(super) fn explain(&self, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EIO) if self.has_keys() => NotData.into(),
            // Since Linux 6.14 nothing is opened between a key update and the new key.
            Some(libc::EKEYEXPIRED) if self.has_keys() => TlsError::KernelKeys.into(),
            Some(libc::EBADMSG | libc::EMSGSIZE) if self.has_keys() => TlsError::Decrypt.into(),
            _ => error,
        }
    }

    /// The same of a splice, which says otherwise that no data comes next.
    pub(super) fn explain_splice(&self, error: io::Error) -> io::Error {
        match error.raw_os_error() {
            Some(libc::EINVAL) if self.has_keys() => NotData.into(),
            _ => self.explain(error),
        }
    }

    /// A look at what there is to receive: a byte of data, the end, or an error.
    pub(super) fn peek(&self) -> io::Result<usize> {
        let mut byte = [MaybeUninit::uninit()];
        SockRef::from(&*self.socket).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    }

    /// Breaks off what cannot be [reset](sys::reset): a socket under the kernel's TLS. Everything pending ends, and the
    /// reset goes out when the last share of the descriptor is closed.
    pub(super) fn abort_by_closing(&self) {
        let socket = SockRef::from(&*self.socket);
        // They fail only when there is no connection any more.
        let _ = socket.set_linger(Some(Duration::ZERO));
        // A write that is under way ends by nothing but a FIN. It is no orderly end: close_notify is missing.
        let how = if self.writing.busy.get() { Shutdown::Both } else { Shutdown::Read };
        let _ = socket.shutdown(how);
        self.in_kernel.set(InKernel::BrokenOff);
    }

    pub(super) fn check_unbroken(&self) -> io::Result<()> {
        match self.in_kernel.get() {
            InKernel::BrokenOff => Err(io::ErrorKind::ConnectionAborted.into()),
            InKernel::Nothing | InKernel::Keys => Ok(()),
        }
    }

    pub(super) async fn send_control(&self, kind: u8, content: &[u8], until: Deadline) -> io::Result<()> {
        debug_assert!(!self.writing.busy.get(), "two writes at once on one link");
        self.check_unbroken()?;
        self.writing.busy.set(true);
        let sent = self.splice(Way::Out, until, || sys::send_record(&*self.socket, kind, content)).await;
        self.writing.busy.set(false);
        match sent {
            Ok(n) if n < content.len() => Err(io::ErrorKind::WriteZero.into()),
            sent => sent.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::link::Link;

    fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (there, _) = listener.accept().unwrap();
        let peer = here.peer_addr().unwrap();
        (Stream::new(here.into(), peer), there)
    }

    fn os(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    fn a_kernel_takes_both_directions_or_neither_or_the_stream_is_of_no_more_use() {
        for (attaches, sends, receives, expected) in [
            (true, true, true, Ok(true)),
            (false, true, true, Ok(false)),
            (true, false, true, Ok(false)),
            (true, true, false, Err(Some(libc::EINVAL))),
        ] {
            let (stream, _there) = connected();
            let said = |is_fine| if is_fine { Ok(()) } else { Err(os(libc::EINVAL)) };
            let asked = std::cell::RefCell::default();
            let set = |direction| {
                Vec::push(&mut asked.borrow_mut(), direction);
                said(if direction == Direction::Send { sends } else { receives })
            };
            let taken = stream.take_over_with(|| said(attaches), set);
            assert_eq!(taken.map_err(|error| error.raw_os_error()), expected);
            assert_eq!(stream.has_keys(), expected == Ok(true));
            let order = [Direction::Send, Direction::Receive];
            let asked_for = if attaches { 1 + usize::from(sends) } else { 0 };
            assert_eq!(*asked.borrow(), order[..asked_for]);
        }
    }

    #[test]
    fn without_keys_an_error_is_what_it_says() {
        let (stream, _there) = connected();
        for code in [libc::EIO, libc::EKEYEXPIRED, libc::EBADMSG, libc::EMSGSIZE, libc::EINVAL] {
            assert_eq!(stream.explain(os(code)).raw_os_error(), Some(code));
            assert_eq!(stream.explain_splice(os(code)).raw_os_error(), Some(code));
        }
    }

    #[test]
    fn with_keys_an_error_says_what_came_of_a_record() {
        let (stream, _there) = connected();
        stream.in_kernel.set(InKernel::Keys);
        let failure = |error: io::Error| error.downcast::<TlsError>().unwrap();
        assert!(NotData::is(&stream.explain(os(libc::EIO))) && NotData::is(&stream.explain_splice(os(libc::EIO))));
        // A receive is told so of something else.
        assert!(NotData::is(&stream.explain_splice(os(libc::EINVAL))));
        assert_eq!(stream.explain(os(libc::EINVAL)).raw_os_error(), Some(libc::EINVAL));
        for explain in [Stream::explain, Stream::explain_splice] {
            assert_eq!(failure(explain(&stream, os(libc::EKEYEXPIRED))), TlsError::KernelKeys);
            assert_eq!(failure(explain(&stream, os(libc::EBADMSG))), TlsError::Decrypt);
            assert_eq!(failure(explain(&stream, os(libc::EMSGSIZE))), TlsError::Decrypt);
            for code in [libc::ECONNRESET, libc::EAGAIN, libc::EPIPE] {
                assert_eq!(explain(&stream, os(code)).raw_os_error(), Some(code));
            }
        }
    }

    #[test]
    fn what_is_broken_off_by_closing_sends_nothing_more_and_ends_in_a_reset() {
        let (stream, mut there) = connected();
        stream.abort_by_closing();
        assert!(!stream.has_keys() && stream.is_broken());
        stream.hang_up();
        there.set_nonblocking(true).unwrap();
        assert_eq!(there.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "no FIN");
        drop(stream);
        assert_eq!(there.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
