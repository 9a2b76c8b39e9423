//! The CPU time a process tree has used: the larger of its accounted time (which keeps what ended threads used) and the
//! sum of its tasks' run time (which is exact, and covers the kernel's workers that run as its tasks).

use std::fs;
use std::time::Duration;

/// Seconds of CPU used so far by these processes and their descendants.
pub(crate) fn used(roots: &[u32]) -> f64 {
    let mut pending = roots.to_vec();
    let mut ticks = 0;
    let mut running = Duration::ZERO;
    while let Some(process) = pending.pop() {
        ticks += accounted(process).unwrap_or(0);
        let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for task in tasks.flatten() {
            let path = task.path();
            let first = |file: &str| -> Option<u64> {
                fs::read_to_string(path.join(file)).ok()?.split_whitespace().next()?.parse().ok()
            };
            running += Duration::from_nanos(first("schedstat").unwrap_or(0));
            let children = fs::read_to_string(path.join("children")).unwrap_or_default();
            pending.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    // Linux counts 100 ticks a second here on every architecture.
    (ticks as f64 / 100.0).max(running.as_secs_f64())
}

/// Seconds the core that the proxy has to itself has worked so far, for whomever: what goes beyond the proxy's own share
/// says that the machine was not quiet.
pub(crate) fn core_busy() -> f64 {
    let table = fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = table.lines().find_map(|line| line.strip_prefix("cpu1 ")) else { return 0.0 };
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // User, nice, system, idle, waiting for I/O, interrupts, soft interrupts, stolen by the host.
    ticks.iter().take(8).enumerate().filter(|(kind, _)| !matches!(kind, 3 | 4)).map(|(_, spent)| spent).sum::<u64>()
        as f64
        / 100.0
}

fn accounted(process: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}
