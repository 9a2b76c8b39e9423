//! One thread, one ring, one runtime: what a shard runs in.

use std::future::Future;
use std::io;

use io_uring::{IoUring, opcode};

use super::sys;

/// Submission entries of a shard's ring that serve well; a full queue is submitted early, never an error.
pub const RING_ENTRIES: u32 = 1024;

/// Runs the future that `make` returns on the calling thread, on a ring of its own, and returns its output.
///
/// The thread is pinned to `core` first; if the system refuses that, it runs unpinned and says so. Tasks still alive
/// when the future ends are dropped with their links.
///
/// # Errors
/// When the system offers no usable ring; the message names the cause and the fix.
pub fn run_shard<F, T>(core: Option<usize>, entries: u32, make: impl FnOnce() -> F) -> io::Result<T>
where
    F: Future<Output = T>,
{
    if let Some(core) = core
        && let Err(error) = sys::pin_to_core(core)
    {
        tracing::warn!(core, %error, "cannot pin the shard to its core; it runs unpinned");
    }
    let mut ring = probe()?.builder();
    // Room for a burst of completions: beyond it the kernel keeps them in a list, which is slower but loses nothing.
    ring.setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_ENTRY)).setup_clamp();
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(entries).uring_builder(&ring))
        .map_err(|error| explain(&error))?;
    Ok(runtime.block_on(async { make().await }))
}

/// Lets the process open as many descriptors as the administrator allows: the soft limit is 1024 on most systems, for
/// the sake of programs that use select(2). Returns the limit.
///
/// # Errors
/// What setrlimit(2) says.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    sys::raise_descriptor_limit()
}

/// Microseconds of the monotonic clock of this machine, which other processes read as well: what sd_notify(3) wants.
#[must_use]
pub fn monotonic_usec() -> u64 {
    sys::monotonic_usec()
}

/// The user and the group that the kernel takes this process for.
#[must_use]
pub fn effective_ids() -> (u32, u32) {
    sys::effective_ids()
}

/// Descriptors this process may have open once the limit is [raised](raise_descriptor_limit).
///
/// # Errors
/// What getrlimit(2) says.
pub fn descriptors_allowed() -> io::Result<u64> {
    sys::limit(libc::RLIMIT_NOFILE).map(|(_, most)| most)
}

/// Cores this process may use, in order. Never empty.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    match sys::allowed_cores() {
        Ok(cores) if !cores.is_empty() => cores,
        _ => vec![0],
    }
}

/// What the kernel's rings can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Linux 6.0 and newer.
    SingleIssuer,
    /// Linux 5.19: works, slightly slower.
    Cooperative,
}

impl Ring {
    /// Flags that were measured to help; deferring completions (`DEFER_TASKRUN`) hangs under tokio-uring 0.5, which
    /// waits in epoll.
    fn builder(self) -> io_uring::Builder {
        let mut builder = tokio_uring::uring_builder();
        builder.setup_coop_taskrun().setup_submit_all();
        if self == Self::SingleIssuer {
            builder.setup_single_issuer();
        }
        builder
    }
}

/// Tries which kind of ring the kernel grants this process. Also a start-up check.
///
/// # Errors
/// When it grants none, or one that cannot do what is needed; the message names the cause and the fix.
pub fn probe() -> io::Result<Ring> {
    let granted = |ring: Ring| -> io::Result<Ring> {
        let made: IoUring = ring.builder().build(8)?;
        check_operations(&made)?;
        // Sandboxes may refuse its use where they have granted the ring.
        made.submit()?;
        Ok(ring)
    };
    match granted(Ring::SingleIssuer) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let ring = granted(Ring::Cooperative).map_err(|error| explain(&error))?;
            tracing::warn!(
                "this kernel is older than Linux 6.0: its io_uring lacks SINGLE_ISSUER, expect a higher load"
            );
            Ok(ring)
        }
        other => other.map_err(|error| explain(&error)),
    }
}

/// Whether the ring has every operation that is used. It needs not be asked where a sandbox forbids to ask.
fn check_operations(ring: &IoUring) -> io::Result<()> {
    let mut probe = io_uring::Probe::new();
    if ring.submitter().register_probe(&mut probe).is_err() {
        return Ok(());
    }
    if OPERATIONS.iter().all(|code| probe.is_supported(*code)) {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// What the ring is asked for.
const OPERATIONS: [u8; 6] = [
    opcode::Accept::CODE,
    opcode::AsyncCancel2::CODE,
    opcode::Connect::CODE,
    opcode::PollAdd::CODE,
    opcode::Recv::CODE,
    opcode::Send::CODE,
];

/// Bytes that one shard's ring counts against `RLIMIT_MEMLOCK` unless the process has `CAP_IPC_LOCK`: entries of 64 bytes
/// with an index of 4 for what is submitted, of 16 for what is completed, two pages besides, and one for the small ring that
/// it was tried with. All shards of one user count together. Nothing else is pinned: bodies travel in ordinary memory, and no
/// buffer is registered with the ring.
pub const RING_BYTES: u64 = RING_ENTRIES as u64 * (64 + 4 + 16 * COMPLETIONS_PER_ENTRY as u64) + 3 * 4096;

/// Tries whether the kernel grants this process rings for so many shards at once.
///
/// # Errors
/// As [`probe`].
pub fn probe_all(shards: usize) -> io::Result<()> {
    let mut ring = probe()?.builder();
    ring.setup_cqsize(RING_ENTRIES.saturating_mul(COMPLETIONS_PER_ENTRY)).setup_clamp();
    let rings: io::Result<Vec<IoUring>> = (0..shards).map(|_| ring.build(RING_ENTRIES)).collect();
    rings.map(drop).map_err(|error| explain(&error))
}

/// Says what an administrator can do about a refused ring.
fn explain(error: &io::Error) -> io::Error {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let advice = match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM | libc::ENOSYS), "2") => {
            "io_uring is switched off by kernel.io_uring_disabled=2; run `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM), "1") => {
            "kernel.io_uring_disabled=1 keeps io_uring for members of kernel.io_uring_group; add the service's group \
             there or run `sysctl -w kernel.io_uring_disabled=0`"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a sandbox forbids io_uring (container runtimes do by default); allow the system calls io_uring_setup, \
             io_uring_enter and io_uring_register in its seccomp profile"
        }
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring, or a sandbox hides it; Linux 5.19 or newer is needed, in a container a seccomp \
             profile that allows io_uring"
        }
        (Some(libc::EINVAL), _) => "this kernel's io_uring is too old; Linux 5.19 or newer is needed",
        (Some(libc::ENOMEM), _) => return no_memory(error),
        (Some(libc::EMFILE | libc::ENFILE), _) => "out of file descriptors; raise the service's LimitNOFILE",
        _ => "the kernel refused a ring",
    };
    io::Error::new(error.kind(), format!("cannot set up io_uring: {advice} ({error})"))
}

fn no_memory(error: &io::Error) -> io::Error {
    let allowed = match sys::limit(libc::RLIMIT_MEMLOCK) {
        Ok((libc::RLIM_INFINITY, _)) => "unlimited".to_owned(),
        Ok((bytes, _)) => format!("{} KiB", bytes / 1024),
        Err(_) => "unknown".to_owned(),
    };
    let message = format!(
        "cannot set up io_uring: not enough memory for the ring; raise the service's LimitMEMLOCK, which it counts \
         against: {} KiB for each worker are needed and {allowed} are allowed ({error})",
        RING_BYTES.div_ceil(1024)
    );
    io::Error::new(error.kind(), message)
}

const COMPLETIONS_PER_ENTRY: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_runs_on_the_core_it_was_given() {
        let core = *allowed_cores().last().unwrap();
        let cores = std::thread::spawn(move || run_shard(Some(core), 8, || async { allowed_cores() }).unwrap());
        assert_eq!(cores.join().unwrap(), [core]);
    }

    #[test]
    fn a_core_that_does_not_exist_is_not_fatal() {
        assert_eq!(run_shard(Some(1 << 20), 8, || async { 7 }).unwrap(), 7);
    }

    #[test]
    fn a_refused_ring_names_cause_and_fix() {
        for (code, said) in [
            (libc::EINVAL, "Linux 5.19"),
            (libc::ENOSYS, "Linux 5.19"),
            (libc::EACCES, "io_uring_setup, io_uring_enter and io_uring_register"),
            (libc::ENOMEM, "LimitMEMLOCK, which it counts against: 208 KiB for each worker are needed and "),
            (libc::EMFILE, "LimitNOFILE"),
        ] {
            let message = explain(&io::Error::from_raw_os_error(code)).to_string();
            assert!(message.starts_with("cannot set up io_uring: ") && message.contains(said), "{message}");
        }
        let message = explain(&io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(message.contains("io_uring_disabled") || message.contains("seccomp"), "{message}");
    }

    #[test]
    fn the_memory_of_a_ring_is_what_is_said() {
        let mut ring = Ring::Cooperative.builder();
        ring.setup_cqsize(RING_ENTRIES * COMPLETIONS_PER_ENTRY);
        let ring: IoUring = ring.build(RING_ENTRIES).unwrap();
        let (submitted, completed) = (u64::from(ring.params().sq_entries()), u64::from(ring.params().cq_entries()));
        let entries = submitted * (64 + 4) + completed * 16;
        assert!((entries..=entries + 3 * 4096).contains(&RING_BYTES), "{entries} of {RING_BYTES}");
    }
}
