//! One epoll set; each source is known by a number.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

pub(crate) struct Poll(OwnedFd);

/// What a source waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    Write,
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Interest::Read => epoll::EventFlags::IN,
            Interest::Write => epoll::EventFlags::OUT,
        }
    }
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    pub(crate) fn add(&self, source: impl AsFd, number: usize, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, epoll::EventData::new_u64(number as u64), interest.flags())?)
    }

    pub(crate) fn change(&self, source: impl AsFd, number: usize, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.0, source, epoll::EventData::new_u64(number as u64), interest.flags())?)
    }

    /// Waits for events, `patience` at most, and gives the numbers of the sources that are ready.
    pub(crate) fn wait(&self, ready: &mut Vec<usize>, patience: Duration) -> io::Result<()> {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
        ready.clear();
        match epoll::wait(&self.0, &mut events, Some(&timeout)) {
            Ok(count) => ready.extend(events[..count].iter().map(|event| event.data.u64() as usize)),
            Err(rustix::io::Errno::INTR) => {}
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }
}
