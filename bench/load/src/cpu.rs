//! The CPU time a process tree has used: the larger of its accounted time (which keeps what ended threads used) and the
//! sum of its tasks' run time (which is exact, and covers the kernel's workers that run as its tasks).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::Failure;

/// What had been used at one moment.
pub(crate) struct Reading {
    ticks: u64,
    /// The run time of each task, by its name and number.
    tasks: BTreeMap<String, Duration>,
    proxy_core: f64,
    own_core: f64,
}

/// What was used between two readings, in seconds.
pub(crate) struct Used {
    pub(crate) watched: f64,
    pub(crate) tasks: Vec<(String, f64)>,
    /// The core that the proxy has to itself, for whomever it worked: what goes beyond the proxy's own share says that the
    /// machine was not quiet.
    pub(crate) proxy_core: f64,
    /// The core of the load generator and the upstream: when it is never idle, they were the limit.
    pub(crate) own_core: f64,
}

impl Reading {
    /// Reads what these processes and their descendants, and the two cores, have used so far.
    pub(crate) fn take(roots: &[u32]) -> Reading {
        let mut reading =
            Reading { ticks: 0, tasks: BTreeMap::new(), proxy_core: core_busy("cpu1 "), own_core: core_busy("cpu0 ") };
        let mut pending = roots.to_vec();
        while let Some(process) = pending.pop() {
            reading.ticks += accounted(process).unwrap_or(0);
            let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for task in tasks.flatten() {
                let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
                let running =
                    read("schedstat").split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
                let name: String =
                    read("comm").chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
                let name = format!("{name} {}", task.file_name().to_string_lossy());
                reading.tasks.insert(name, Duration::from_nanos(running));
                pending.extend(read("children").split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        reading
    }

    /// What was used up to a later reading. A process that is watched and used nothing is not there any more.
    pub(crate) fn until(&self, later: &Reading, roots: &[u32]) -> Result<Used, Failure> {
        let total = |reading: &Reading| reading.tasks.values().sum::<Duration>().as_secs_f64();
        // Linux counts 100 ticks a second here on every architecture.
        let charged = (later.ticks as f64 - self.ticks as f64) / 100.0;
        let watched = charged.max(total(later) - total(self));
        let gone = roots.iter().find(|process| accounted(**process).is_none());
        if let Some(process) = gone {
            return Err(format!("the watched process {process} has ended").into());
        }
        if !roots.is_empty() && watched <= 0.0 {
            return Err(format!("the watched processes used {watched} s of CPU").into());
        }
        let since = |name: &String| self.tasks.get(name).copied().unwrap_or_default();
        let tasks =
            later.tasks.iter().map(|(name, used)| (name.clone(), used.saturating_sub(since(name)).as_secs_f64()));
        Ok(Used {
            watched,
            tasks: tasks.collect(),
            proxy_core: later.proxy_core - self.proxy_core,
            own_core: later.own_core - self.own_core,
        })
    }
}

/// Seconds a core has worked so far.
fn core_busy(name: &str) -> f64 {
    let table = fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = table.lines().find_map(|line| line.strip_prefix(name)) else { return 0.0 };
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // User, nice, system, idle, waiting for I/O, interrupts, soft interrupts, stolen by the host.
    ticks.iter().take(8).enumerate().filter(|(kind, _)| !matches!(kind, 3 | 4)).map(|(_, spent)| spent).sum::<u64>()
        as f64
        / 100.0
}

/// The ticks a process was charged for; None when it is gone, or only waits to be collected.
fn accounted(process: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let mut fields = fields.skip(10);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(user + system)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_busy_process_is_charged_by_task() {
        let roots = [std::process::id()];
        let before = Reading::take(&roots);
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {}
        let used = before.until(&Reading::take(&roots), &roots).unwrap();
        assert!(used.watched >= 0.02, "{}", used.watched);
        assert!(used.tasks.iter().any(|(_, seconds)| *seconds >= 0.02), "{:?}", used.tasks);
    }

    #[test]
    fn a_process_that_ended_is_refused() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let roots = [child.id()];
        let before = Reading::take(&roots);
        child.kill().unwrap();
        while accounted(child.id()).is_some() {}
        assert!(before.until(&Reading::take(&roots), &roots).err().unwrap().to_string().contains("has ended"));
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_used_nothing_is_refused() {
        let roots = [std::process::id()];
        let reading = Reading::take(&roots);
        assert!(reading.until(&reading, &roots).err().unwrap().to_string().contains("s of CPU"));
    }
}
