//! What the process is told by signals. SIGPIPE is ignored by Rust's runtime before `main`.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, iterator};

/// What the process is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is going on, then end. A second one ends the process at once, as if nobody had asked
    /// to be told: who asks twice does not want to wait.
    Stop,
    /// SIGHUP: open the log files anew and read the configuration anew.
    Reload,
    /// No signal, but [said](News::files_have_changed) by a thread: the files of certificates have changed.
    Files,
}

/// The signals that arrive from now on. Many that ask for the same are one, and none waits behind another that asks for
/// less.
pub struct Signals {
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    asked: Mutex<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    stop: bool,
    reload: bool,
    files: bool,
}

/// Tells whoever waits for [`Signals`].
#[derive(Clone)]
pub struct News {
    inbox: Arc<Inbox>,
}

impl News {
    /// The files of certificates have changed.
    pub fn files_have_changed(&self) {
        self.inbox.tell(Signal::Files);
    }
}

impl Inbox {
    fn tell(&self, signal: Signal) {
        let mut asked = self.lock();
        match signal {
            Signal::Stop => asked.stop = true,
            Signal::Reload => asked.reload = true,
            Signal::Files => asked.files = true,
        }
        drop(asked);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// The most urgent.
    fn take(&mut self) -> Option<Signal> {
        let rows =
            [(&mut self.stop, Signal::Stop), (&mut self.reload, Signal::Reload), (&mut self.files, Signal::Files)];
        rows.into_iter().find_map(|(asked, signal)| std::mem::take(asked).then_some(signal))
    }
}

impl Signals {
    /// Takes the signals over from their defaults. Once a process.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn install() -> io::Result<Self> {
        let has_stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first of them finds the flag down, and raises it.
            flag::register_conditional_default(signal, Arc::clone(&has_stopped))?;
            flag::register(signal, Arc::clone(&has_stopped))?;
        }
        let mut source = iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let inbox = Arc::new(Inbox::default());
        let arrived = Arc::clone(&inbox);
        // It ends with the process.
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in source.forever() {
                arrived.tell(if signal == SIGHUP { Signal::Reload } else { Signal::Stop });
            }
        })?;
        Ok(Self { inbox })
    }

    /// For other threads that have something to say.
    #[must_use]
    pub fn news(&self) -> News {
        News { inbox: Arc::clone(&self.inbox) }
    }

    /// Waits for the next signal.
    pub fn wait(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.wait_for(Duration::from_secs(3600)) {
                return signal;
            }
        }
    }

    /// Waits for the next signal, at most `patience`.
    pub fn wait_for(&mut self, patience: Duration) -> Option<Signal> {
        let asked = self.inbox.lock();
        let nothing = |asked: &mut Asked| !(asked.stop || asked.reload || asked.files);
        let waited = self.inbox.changed.wait_timeout_while(asked, patience, nothing);
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    const CHILD: &str = "FILMGATE_TEST_SIGNALS_CHILD";
    /// Makes the child take its time over a reload.
    const SLOW: &str = "FILMGATE_TEST_SIGNALS_SLOW";

    /// Runs in a process of its own (see [`start`]), because signals belong to the whole process.
    #[test]
    fn in_the_child_signals_are_printed() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let mut signals = Signals::install().unwrap();
        println!("\nready");
        loop {
            let signal = signals.wait();
            println!("{signal:?}");
            if signal == Signal::Reload && std::env::var_os(SLOW).is_some() {
                std::thread::sleep(Duration::from_secs(3));
            }
        }
    }

    /// Ends the child when the test does.
    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start() -> (Guard, BufReader<ChildStdout>) {
        start_with(&[])
    }

    fn start_with(variables: &[(&str, &str)]) -> (Guard, BufReader<ChildStdout>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::signals::tests::in_the_child_signals_are_printed", "--nocapture"])
            .env(CHILD, "1")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        while next(&mut output) != "ready" {}
        (Guard(child), output)
    }

    fn next(output: &mut BufReader<ChildStdout>) -> String {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended early");
        line.trim().to_owned()
    }

    fn kill(child: &Guard, signal: &str) {
        assert!(Command::new("kill").args(["-s", signal, &child.0.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn hangups_reload_and_the_first_stop_is_told() {
        for stop in ["TERM", "INT"] {
            let (mut child, mut output) = start();
            for _ in 0..2 {
                kill(&child, "HUP");
                assert_eq!(next(&mut output), "Reload");
            }
            kill(&child, stop);
            assert_eq!(next(&mut output), "Stop");
            assert_eq!(child.0.try_wait().unwrap(), None);
            kill(&child, "HUP");
            assert_eq!(next(&mut output), "Reload");
        }
    }

    #[test]
    fn a_second_stop_ends_the_process_at_once() {
        for (first, second, number) in [("TERM", "TERM", SIGTERM), ("TERM", "INT", SIGINT), ("INT", "TERM", SIGTERM)] {
            let (mut child, mut output) = start();
            kill(&child, first);
            assert_eq!(next(&mut output), "Stop");
            kill(&child, second);
            assert_eq!(child.0.wait().unwrap().signal(), Some(number), "{first} {second}");
        }
    }

    #[test]
    fn a_stop_does_not_wait_behind_reloads_and_many_of_those_are_one() {
        let (child, mut output) = start_with(&[(SLOW, "1")]);
        kill(&child, "HUP");
        assert_eq!(next(&mut output), "Reload");
        for _ in 0..20 {
            kill(&child, "HUP");
        }
        kill(&child, "TERM");
        assert_eq!(next(&mut output), "Stop");
        assert_eq!(next(&mut output), "Reload");
        drop(child);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
        assert_eq!(rest, "");
    }

    #[test]
    fn a_second_stop_ends_the_process_whatever_it_is_doing() {
        let (mut child, mut output) = start_with(&[(SLOW, "1")]);
        kill(&child, "HUP");
        assert_eq!(next(&mut output), "Reload");
        kill(&child, "TERM");
        std::thread::sleep(Duration::from_millis(50));
        kill(&child, "TERM");
        assert_eq!(child.0.wait().unwrap().signal(), Some(SIGTERM));
    }
}
