//! What the process is told by signals. SIGPIPE is ignored by Rust's runtime before `main`.

use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, iterator};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is going on, then end.
    Stop,
    /// SIGHUP: open the log files anew and read the configuration anew.
    Reload,
}

/// The signals that arrive from now on.
pub struct Signals {
    arrived: mpsc::Receiver<c_int>,
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over from their defaults. Once a process.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn install() -> io::Result<Self> {
        let at_once = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_default(signal, Arc::clone(&at_once))?;
        }
        let mut source = iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let (arrive, arrived) = mpsc::channel();
        // It ends with the process, or once nobody wants to know any more.
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let _ = source.forever().try_for_each(|signal| arrive.send(signal));
        })?;
        Ok(Self { arrived, at_once })
    }

    /// From now on SIGTERM and SIGINT end the process at once, as if nobody had asked to be told. For the time of the
    /// drain: who asks twice does not want to wait.
    pub fn stop_at_once_next_time(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }

    /// Waits for the next signal.
    ///
    /// # Panics
    /// When the thread that takes them has ended, which it does not.
    pub fn wait(&mut self) -> Signal {
        Self::meaning(self.arrived.recv().expect("signals are taken as long as the process lives"))
    }

    /// Waits for the next signal, at most `patience`.
    pub fn wait_for(&mut self, patience: Duration) -> Option<Signal> {
        self.arrived.recv_timeout(patience).ok().map(Self::meaning)
    }

    fn meaning(signal: c_int) -> Signal {
        if signal == SIGHUP { Signal::Reload } else { Signal::Stop }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    const CHILD: &str = "FILMGATE_TEST_SIGNALS_CHILD";

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
            if signal == Signal::Stop {
                signals.stop_at_once_next_time();
            }
            println!("{signal:?}");
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
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::signals::tests::in_the_child_signals_are_printed", "--nocapture"])
            .env(CHILD, "1")
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
}
