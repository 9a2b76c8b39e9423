//! TLS connections whose records the kernel protects: what is read and written is plaintext, in the caller's buffers.
//!
//! The session is left with what is not data. The kernel hands that out apart: a read that meets such a record fails with
//! [`NotData`], the record is fetched and judged, and the read goes on.

use std::io;

use tokio::sync::MutexGuard;

use super::{SURELY_DATA_BYTES, Secure, State, cut_short};
use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::limits;
use crate::link::{Direction, Link, NotData};
use crate::pipe::Pipe;
use crate::tls::TlsError;
use crate::tls::session::{Control, OpenState, Refusal, TrafficKey};

/// Content type of alerts (RFC 8446 §5.1).
const ALERT: u8 = 21;

impl<L: Link> Secure<L> {
    /// Leaves the records to the kernel if it takes them, once the handshake is over and all of it is sent. Otherwise the
    /// session goes on as it is.
    ///
    /// # Errors
    /// When the kernel took one direction only. The link is broken off.
    pub(super) async fn leave_to_kernel(&self, until: Deadline) -> io::Result<()> {
        let Some(kernel) = self.link.kernel_tls() else { return Ok(()) };
        self.complete_record(until).await;
        let keys = {
            let State { session, incoming, outgoing, .. } = &mut *self.state.borrow_mut();
            session.take_keys().filter(|_| incoming.is_none() && outgoing.is_empty())
        };
        let Some(keys) = keys else { return Ok(()) };
        let (Some(send), Some(receive)) = (keys.send().record_key(), keys.receive().record_key()) else {
            return Ok(());
        };
        if !kernel.takes(send.cipher) {
            return Ok(());
        }
        let handed = self.link.hand_keys(&send, &receive).inspect_err(|_| self.link.abort())?;
        if handed {
            self.state.borrow_mut().session.leave_to_kernel(kernel.rekeys);
            self.in_kernel.set(true);
        }
        Ok(())
    }

    /// Opens what has come with the end of the handshake, and reads the rest of a record that came in part: the kernel
    /// starts with a whole one.
    async fn complete_record(&self, until: Deadline) {
        let until = until.min(Deadline::after(limits::KERNEL_RECORD_WAIT));
        loop {
            let waiting = {
                let State { session, incoming, outgoing, .. } = &mut *self.state.borrow_mut();
                let Some(mut buffer) = incoming.take() else { return };
                let (consumed, missing) = session.open_all(buffer.filled_mut(), outgoing);
                buffer.consume(consumed);
                match missing {
                    0 => {
                        *incoming = Some(buffer).filter(|buffer| !buffer.is_empty());
                        return;
                    }
                    missing => (buffer, missing),
                }
            };
            let (buffer, missing) = waiting;
            let mut buffer = self.with_room(Some(buffer), false);
            buffer.compact();
            let whole = buffer.len() + missing;
            buffer.limit(whole);
            let read = self.fill_into(buffer, until).await;
            if let Some(buffer) = &mut self.state.borrow_mut().incoming {
                buffer.limit(buffer.capacity());
            }
            if !matches!(read, Ok(1..)) {
                return;
            }
        }
    }

    /// Waits until there is data, or something to tell.
    pub(super) async fn wait_for_data(&self, until: Deadline) -> io::Result<()> {
        loop {
            {
                let state = self.state.borrow();
                if state.ended || state.session.has_pending_plain() {
                    return Ok(());
                }
            }
            self.check_interrupted()?;
            self.link.readable(until).await?;
            // In the middle of a body a look costs more than it tells. Behind one an answer was sent.
            if self.reads_bulk.get() || !self.link.is_control_next() {
                return Ok(());
            }
            self.take_control(until).await?;
        }
    }

    pub(super) async fn read_data(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        loop {
            // What was opened before the kernel took over, a goodbye, or a failure.
            let opened = self.state.borrow_mut().open(into.spare_mut());
            match opened {
                Ok((produced @ 1.., _)) => {
                    into.commit(produced);
                    return (Ok(produced), into);
                }
                Ok((_, OpenState::PeerClosed)) => return (Ok(0), into),
                Ok(_) => {}
                Err(error) => return (Err(error.into()), into),
            }
            if self.state.borrow().ended {
                return (Err(cut_short()), into);
            }
            let mut result = self.check_interrupted().map(|()| 0);
            if result.is_ok() {
                (result, into) = self.link.read(into, until).await;
            }
            let is_control_next = match &result {
                // The end; or a record that is no data, behind data without content.
                Ok(n) => *n == 0,
                Err(error) => NotData::is(error),
            };
            if !is_control_next {
                return (self.judge(result, until).await, into);
            }
            if let Err(error) = self.take_control(until).await {
                return (Err(error), into);
            }
        }
    }

    /// What it means that receiving data ended like this, which is not with nothing.
    async fn judge(&self, result: io::Result<usize>, until: Deadline) -> io::Result<usize> {
        match result {
            Ok(n) => {
                self.reads_bulk.set(n >= SURELY_DATA_BYTES);
                let taken = self.state.borrow_mut().session.took_data(n);
                match taken {
                    Ok(()) => Ok(n),
                    Err(refused) => Err(Box::pin(self.refuse(refused, until)).await.into()),
                }
            }
            Err(error) => Err(match error.downcast::<TlsError>() {
                Ok(failure) => {
                    let failure = self.state.borrow_mut().session.give_up(failure);
                    if failure == TlsError::Decrypt {
                        self.say_alert(BAD_RECORD_MAC, until).await;
                    }
                    failure.into()
                }
                Err(error) => error,
            }),
        }
    }

    /// Fetches a record that is no data and does what it asks for. What is wrong with it stays with the session.
    async fn take_control(&self, until: Deadline) -> io::Result<()> {
        let taken = {
            let mut content = [0; limits::TLS_CONTROL_BYTES];
            let (kind, len) = self.link.read_control(&mut content)?;
            let State { session, ended, .. } = &mut *self.state.borrow_mut();
            if kind == 0 {
                *ended = true;
                return Ok(());
            }
            session.take_control(kind, &content[..len])
        };
        match taken {
            Ok(None) => {}
            Ok(Some(key)) => {
                if self.change_key(Direction::Receive, &key).is_err() {
                    self.state.borrow_mut().session.give_up(TlsError::KernelKeys);
                }
            }
            // For the next read to report.
            Err(refused) => drop(Box::pin(self.refuse(refused, until)).await),
        }
        Ok(())
    }

    /// The error of what ended the session, about which the peer is told. For a box: it happens once at most, and would be
    /// part of every idle client.
    async fn refuse(&self, (error, alert): Refusal, until: Deadline) -> TlsError {
        if let Some(alert) = alert {
            self.say_alert(alert, until).await;
        }
        error
    }

    fn change_key(&self, direction: Direction, key: &TrafficKey) -> io::Result<()> {
        let key = key.record_key().ok_or(io::ErrorKind::Unsupported)?;
        self.link.next_key(direction, &key)
    }

    /// Tells the peer why the session ends, unless the writing half is at work: the connection is of no more use anyway.
    async fn say_alert(&self, alert: [u8; 2], until: Deadline) {
        if let Ok(turn) = self.turn.try_lock() {
            let _ = self.send_control(&turn, (ALERT, &alert), until).await;
        }
    }

    async fn send_control(
        &self,
        _turn: &MutexGuard<'_, ()>,
        (kind, content): (u8, &[u8]),
        until: Deadline,
    ) -> io::Result<()> {
        if self.state.borrow().cut_off {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sent = self.link.write_control(kind, content, until).await;
        self.state.borrow_mut().cut_off |= sent.is_err();
        sent
    }

    pub(super) async fn say_goodbye(&self, turn: &MutexGuard<'_, ()>, until: Deadline) -> io::Result<()> {
        let goodbye: Option<Control> = self.state.borrow_mut().session.goodbye();
        match goodbye {
            Some(goodbye) => self.send_control(turn, goodbye, until).await,
            None => Ok(()),
        }
    }

    /// Makes the sending key fit for so many bytes more.
    async fn before_sending(&self, turn: &MutexGuard<'_, ()>, bytes: usize, until: Deadline) -> io::Result<()> {
        let next = self.state.borrow_mut().session.before_sending(bytes)?;
        let Some((update, key)) = next else { return Ok(()) };
        self.send_control(turn, update, until).await?;
        let changed = self.change_key(Direction::Send, &key);
        self.state.borrow_mut().cut_off |= changed.is_err();
        changed
    }

    pub(super) async fn write_data(&self, from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        let turn = self.turn.lock().await;
        self.reads_bulk.set(false);
        match self.before_sending(&turn, from.len(), until).await {
            Ok(()) => self.send(from, until).await,
            Err(error) => (Err(error), from),
        }
    }

    pub(super) async fn splice_data_in(&self, pipe: &mut Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        {
            let state = self.state.borrow();
            if state.ended || state.session.has_pending_plain() {
                return Err(NotData.into());
            }
        }
        match self.link.splice_in(pipe, max, until).await {
            // The end, or a record without content, which is legal (RFC 8446 §5.4): a read tells one from the other.
            Ok(0) => Err(NotData.into()),
            Err(error) if NotData::is(&error) => Err(error),
            result => self.judge(result, until).await,
        }
    }

    pub(super) async fn splice_data_out(&self, pipe: &mut Pipe, until: Deadline) -> io::Result<()> {
        let turn = self.turn.lock().await;
        self.reads_bulk.set(false);
        if self.state.borrow().cut_off {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = pipe.len();
        self.before_sending(&turn, 0, until).await?;
        let sent = self.link.splice_out(pipe, until).await;
        let State { session, cut_off, .. } = &mut *self.state.borrow_mut();
        *cut_off |= sent.is_err();
        session.sent_data(before - pipe.len());
        sent
    }
}

/// `bad_record_mac`, fatal (RFC 8446 §6).
const BAD_RECORD_MAC: [u8; 2] = [2, 20];
