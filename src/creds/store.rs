//! The control thread: every set of credentials, each kept by a task of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;

use super::assume::Way;
use super::keeper::Keeper;
use super::{CredentialOptions, StartError, Status};
use crate::sign::credentials::Slot;

/// How long the thread's end may wait for a name that is being looked up.
const END: Duration = Duration::from_millis(100);

/// What is known of all credentials, at any time and from any thread.
#[derive(Clone, Debug, Default)]
pub struct Statuses(Arc<Vec<Arc<Mutex<Status>>>>);

impl Statuses {
    /// How they are now, in the order of the configuration.
    #[must_use]
    pub fn now(&self) -> Vec<Status> {
        self.0.iter().map(|status| status.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

/// The running thread. It ends when this is dropped.
pub struct Store {
    thread: Option<JoinHandle<()>>,
    stop: Arc<Notify>,
    statuses: Statuses,
    firsts: Mutex<mpsc::Receiver<()>>,
}

impl Store {
    /// Starts to ask for credentials, and returns at once with a slot for each, in order.
    ///
    /// # Errors
    /// When a file that the options name cannot be used, or the thread cannot be started.
    pub fn start(credentials: Vec<CredentialOptions>) -> Result<(Self, Vec<Arc<Slot>>), StartError> {
        let (first, firsts) = mpsc::channel();
        let (mut keepers, mut slots, mut statuses) = (VecDeque::new(), Vec::new(), Vec::new());
        for options in credentials {
            let way = Way::new(&options)?;
            let doubted = Arc::new(Notify::new());
            let waker = Arc::clone(&doubted);
            let slot = Arc::new(Slot::new(move || waker.notify_one()));
            let status = Arc::new(Mutex::new(Status { name: options.name.clone(), ..Status::default() }));
            slots.push(Arc::clone(&slot));
            statuses.push(Arc::clone(&status));
            let named = (options.name, options.pace);
            keepers.push_back(Keeper::new(named, way, (slot, doubted), status, first.clone()));
        }
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let failed = |error: io::Error| StartError { name: String::new(), what: error.to_string() };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let thread = thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            runtime.block_on(async {
                for keeper in keepers {
                    tokio::spawn(keeper.run());
                }
                stopped.notified().await;
            });
            runtime.shutdown_timeout(END);
        });
        let thread = Some(thread.map_err(failed)?);
        Ok((Self { thread, stop, statuses: Statuses(Arc::new(statuses)), firsts: Mutex::new(firsts) }, slots))
    }

    /// Waits until everything was asked for once, but not longer than `patience`; whether that is so.
    pub fn wait_first(&self, patience: Duration) -> bool {
        // Nothing is ever sent: the end of the channel is the end of the last first attempt.
        let firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(firsts.recv_timeout(patience), Err(mpsc::RecvTimeoutError::Timeout))
    }

    /// How the credentials are, for whoever shows it.
    #[must_use]
    pub fn statuses(&self) -> Statuses {
        self.statuses.clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread of the credentials had ended early");
        }
    }
}
