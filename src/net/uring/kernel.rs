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
        let attached = sys::attach_tls(&*self.socket);
        if let Err(error) = attached.and_then(|()| sys::set_record_key(&*self.socket, Direction::Send, send)) {
            tracing::debug!(%error, "the kernel does not take a TLS connection");
            return Ok(false);
        }
        sys::set_record_key(&*self.socket, Direction::Receive, receive)?;
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
