//! The control thread: every set of credentials, each kept by a task of its own.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::assume::Way;
use super::keeper::Keeper;
use super::{CredentialOptions, StartError, Status};
use crate::sign::credentials::Slot;
use crate::tls::config;

/// How long the thread's end may wait for a name that is being looked up.
const END: Duration = Duration::from_millis(100);

/// What is known of all credentials, at any time and from any thread.
#[derive(Clone, Debug, Default)]
pub struct Statuses(Arc<Mutex<Vec<Arc<Mutex<Status>>>>>);

impl Statuses {
    /// How they are now, in the order of the configuration.
    #[must_use]
    pub fn now(&self) -> Vec<Status> {
        locked(&self.0).iter().map(|status| locked(status).clone()).collect()
    }
}

/// The running thread. It ends when this is dropped.
pub struct Store {
    thread: Option<JoinHandle<()>>,
    runtime: runtime::Handle,
    stop: Arc<Notify>,
    statuses: Statuses,
    kept: Mutex<Kept>,
}

/// Credentials of one configuration. Those that are in no other are no longer renewed once this is dropped.
pub struct Kept {
    all: Vec<Arc<One>>,
    firsts: mpsc::Receiver<()>,
}

/// One set of credentials, and the task that keeps them.
struct One {
    options: CredentialOptions,
    /// What the files held that the options name.
    files: Vec<Content>,
    slot: Arc<Slot>,
    status: Arc<Mutex<Status>>,
    task: AbortHandle,
}

impl Drop for One {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    /// A slot for each, in order.
    #[must_use]
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.all.iter().map(|one| Arc::clone(&one.slot)).collect()
    }

    /// Waits until everything new was asked for once, but not longer than `patience`; whether that is so.
    #[must_use]
    pub fn wait_first(&self, patience: Duration) -> bool {
        // Nothing is ever sent: the end of the channel is the end of the last first attempt.
        !matches!(self.firsts.recv_timeout(patience), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

impl Store {
    /// Starts to ask for credentials, and returns at once with a slot for each, in order.
    ///
    /// # Errors
    /// When a file that the options name cannot be used, or the thread cannot be started.
    pub fn start(credentials: Vec<CredentialOptions>) -> Result<(Self, Vec<Arc<Slot>>), StartError> {
        Self::start_with(credentials, Statuses::default())
    }

    /// The same; how the credentials are is seen in `statuses`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(
        credentials: Vec<CredentialOptions>,
        statuses: Statuses,
    ) -> Result<(Self, Vec<Arc<Slot>>), StartError> {
        let failed = |error: io::Error| StartError { name: String::new(), what: error.to_string() };
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            runtime.block_on(stopped.notified());
            runtime.shutdown_timeout(END);
        });
        let thread = Some(thread.map_err(failed)?);
        let kept = Kept { all: Vec::new(), firsts: mpsc::channel().1 };
        let store = Self { thread, runtime: handle, stop, statuses, kept: Mutex::new(kept) };
        let kept = store.also(credentials)?;
        let slots = kept.slots();
        store.keep(kept);
        Ok((store, slots))
    }

    /// Starts to ask for those of `credentials` that are not asked for yet, besides all others.
    ///
    /// # Errors
    /// When a file that the options name cannot be used.
    pub fn also(&self, credentials: Vec<CredentialOptions>) -> Result<Kept, StartError> {
        let (first, firsts) = mpsc::channel();
        let kept = locked(&self.kept);
        let all = credentials.into_iter().map(|options| {
            let files = files_of(&options);
            let same = kept.all.iter().find(|one| one.options == options && one.files == files);
            same.map_or_else(|| self.begin(options, files, first.clone()), |one| Ok(Arc::clone(one)))
        });
        let all = all.collect::<Result<_, _>>()?;
        Ok(Kept { all, firsts })
    }

    /// What was there under a name and would not be with `kept`, if there is such a thing.
    #[must_use]
    pub fn lost_with(&self, kept: &Kept) -> Option<StartError> {
        let before = locked(&self.kept);
        let is_lost = |new: &&Arc<One>| {
            let mut old = before.all.iter().filter(|old| old.options.name == new.options.name);
            new.slot.current().is_none() && old.any(|old| old.slot.current().is_some())
        };
        kept.all.iter().find(is_lost).map(|new| {
            let error = locked(&new.status).error.clone();
            let what = format!(
                "there are none with the new configuration, and those in use are good: {}",
                error.as_deref().unwrap_or("no answer yet")
            );
            StartError { name: new.options.name.clone(), what }
        })
    }

    /// Keeps these from now on, and no others.
    pub fn keep(&self, kept: Kept) {
        *locked(&self.statuses.0) = kept.all.iter().map(|one| Arc::clone(&one.status)).collect();
        *locked(&self.kept) = kept;
    }

    fn begin(
        &self,
        options: CredentialOptions,
        files: Vec<Content>,
        first: mpsc::Sender<()>,
    ) -> Result<Arc<One>, StartError> {
        let way = Way::new(&options)?;
        let doubted = Arc::new(Notify::new());
        let waker = Arc::clone(&doubted);
        let slot = Arc::new(Slot::new(move || waker.notify_one()));
        let status = Arc::new(Mutex::new(Status { name: options.name.clone(), ..Status::default() }));
        let named = (options.name.clone(), options.pace.clone());
        let keeper = Keeper::new(named, way, (Arc::clone(&slot), doubted), Arc::clone(&status), first);
        let task = self.runtime.spawn(keeper.run()).abort_handle();
        Ok(Arc::new(One { options, files, slot, status, task }))
    }

    /// Waits until everything was asked for once, but not longer than `patience`; whether that is so.
    pub fn wait_first(&self, patience: Duration) -> bool {
        locked(&self.kept).wait_first(patience)
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

/// What the files hold that `options` name: another content is another way to get credentials.
fn files_of(options: &CredentialOptions) -> Vec<Content> {
    let policies = options.roles.iter().map(|role| role.policy_file.as_ref());
    policies.chain([options.sts.ca_file.as_ref()]).map(|path| config::read(path?).ok()).collect()
}

/// What is in a file, if it can be read.
type Content = Option<Zeroizing<Vec<u8>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
