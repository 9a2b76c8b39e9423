//! Operations of the ring and the few system calls that no safe crate offers.
//!
//! Everything an operation points to is moved into it and comes back with its completion, together with a share of the
//! descriptor: neither can go away while the kernel may still use them.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{cqueue, opcode, squeue, types};
use socket2::{SockAddr, SockAddrStorage};
use tokio::io::unix::AsyncFd;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::kernel;
use crate::buffer::Buffer;
use crate::limits;
use crate::link::{Direction, RecordKey};
use crate::pipe::Ends;

/// A descriptor that stays open until its last operation has completed.
pub(super) type Socket = Rc<OwnedFd>;

/// A descriptor whose readiness the thread's driver notes.
pub(super) type Watch = AsyncFd<Socket>;

/// An operation in the ring; yields the kernel's answer and what had been lent to it.
pub(super) type InFlight<T> = InFlightOneshot<Lent<T>, Completed<T>>;

/// What the kernel holds while an operation is in flight.
///
/// tokio-uring 0.5 frees the data of a *dropped* operation when its driver is dropped, before the kernel has let go of
/// it. So what is lent is never freed here: an abandoned operation leaks its buffer instead of handing the kernel a
/// dangling pointer. Nobody abandons operations except a runtime that is torn down.
pub(super) struct Lent<T> {
    thing: ManuallyDrop<T>,
    _socket: Socket,
}

/// Turns a completion back into what had been lent.
pub(super) struct Completed<T>(PhantomData<fn() -> T>);

impl<T> OneshotOutputTransform for Completed<T> {
    type Output = (io::Result<usize>, T);
    type StoredData = Lent<T>;

    fn transform_oneshot_output(self, data: Lent<T>, cqe: cqueue::Entry) -> Self::Output {
        let result = usize::try_from(cqe.result()).map_err(|_| io::Error::from_raw_os_error(-cqe.result()));
        (result, ManuallyDrop::into_inner(data.thing))
    }
}

fn submit<T: 'static>(socket: &Socket, thing: T, entry: squeue::Entry) -> InFlight<T> {
    let lent = Lent { thing: ManuallyDrop::new(thing), _socket: Rc::clone(socket) };
    UnsubmittedOneshot::new(lent, Completed(PhantomData), entry).submit()
}

fn target(socket: &Socket) -> types::Fd {
    types::Fd(socket.as_raw_fd())
}

/// Lengths of the ring are 32 bits and results 31.
fn length(bytes: &[u8]) -> u32 {
    bytes.len().min(i32::MAX as usize) as u32
}

/// Receives into the spare room of `into`. The bytes are not committed yet.
///
/// The room is one heap allocation that does not move when `into` does, and [`Lent`] keeps it until completion.
pub(super) fn recv(socket: &Socket, mut into: Buffer) -> InFlight<Buffer> {
    let room = into.spare_mut();
    let entry = opcode::Recv::new(target(socket), room.as_mut_ptr(), length(room)).build();
    submit(socket, into, entry)
}

/// Receives what is there, without waiting.
///
/// # Errors
/// `EAGAIN` when nothing is there, else what recv(2) says.
pub(super) fn recv_now(socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the room is borrowed for the call, which does not wait and writes no more than its length.
    let n = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends the filled bytes of `from`, all of them unless something happens first. They are not consumed yet.
///
/// `MSG_WAITALL` makes the kernel go on after a short send by itself (since Linux 6.0), which saves turns of the ring. Its
/// TLS refuses that flag.
pub(super) fn send(socket: &Socket, from: Buffer, is_tls: bool) -> InFlight<Buffer> {
    let filled = from.filled();
    let flags = if is_tls { libc::MSG_NOSIGNAL } else { libc::MSG_NOSIGNAL | libc::MSG_WAITALL };
    let entry = opcode::Send::new(target(socket), filled.as_ptr(), length(filled)).flags(flags).build();
    submit(socket, from, entry)
}

/// Waits until a receive would not wait.
pub(super) fn poll_readable(socket: &Socket) -> InFlight<()> {
    let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
    submit(socket, (), opcode::PollAdd::new(target(socket), events).build())
}

/// Waits until the peer has ended its sending or the connection is dead; bytes do not wake it.
pub(super) fn poll_closed(socket: &Socket) -> InFlight<()> {
    submit(socket, (), opcode::PollAdd::new(target(socket), libc::POLLRDHUP as u32).build())
}

/// Connects to `to`.
pub(super) fn connect(socket: &Socket, to: SocketAddr) -> InFlight<Box<SockAddr>> {
    let to = Box::new(SockAddr::from(to));
    let entry = opcode::Connect::new(target(socket), to.as_ptr().cast(), to.len()).build();
    submit(socket, to, entry)
}

/// Makes every operation that is now in flight on `socket` end, most with `ECANCELED`.
///
/// The entry takes its place in the queue at once, so operations submitted later are not touched. Its own completion
/// says nothing worth waiting for; the driver keeps the descriptor until then.
pub(super) fn cancel(socket: &Socket) {
    let all = types::CancelBuilder::fd(target(socket)).all();
    drop(submit(socket, (), opcode::AsyncCancel2::new(all).build()));
}

/// Accepts one connection.
///
/// # Errors
/// What accept(2) says, `ECANCELED` after [`cancel`], `EINVAL` once the listener is shut down.
pub(super) async fn accept(listener: &Socket) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut caller = Box::new(Caller::unknown());
    let (address, length) = caller.pointers();
    let entry = opcode::Accept::new(target(listener), address, length).flags(libc::SOCK_CLOEXEC).build();
    let (result, caller) = submit(listener, caller, entry).await;
    caller.accepted(result? as i32)
}

/// Accepts a connection that is there already; the listener has to be non-blocking.
///
/// # Errors
/// What accept(2) says, `EAGAIN` when none is there.
pub(super) fn accept_now(listener: &Socket) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut caller = Caller::unknown();
    let (address, length) = caller.pointers();
    // SAFETY: both pointers are to `caller`, which outlives the call, and `length` is the room at `address`.
    match unsafe { libc::accept4(listener.as_raw_fd(), address, length, libc::SOCK_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        fd => caller.accepted(fd),
    }
}

/// Where the kernel writes the address of an accepted peer.
struct Caller {
    address: SockAddrStorage,
    length: libc::socklen_t,
}

impl Caller {
    fn unknown() -> Self {
        let address = SockAddrStorage::zeroed();
        Self { length: address.size_of(), address }
    }

    fn pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.address).cast(), &raw mut self.length)
    }

    /// `fd` is what a successful accept on these pointers returned.
    fn accepted(self, fd: i32) -> io::Result<(OwnedFd, SocketAddr)> {
        // SAFETY: a successful accept yields a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the kernel has written a socket address of `length` bytes into the storage.
        let address = unsafe { SockAddr::new(self.address, self.length) };
        let address = address.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok((socket, address))
    }
}

/// Has the thread's driver note when `socket` becomes readable or writable.
///
/// # Errors
/// What epoll_ctl(2) says, such as `EEXIST` when it is watched already.
pub(super) fn watch(socket: &Socket) -> io::Result<Watch> {
    // SAFETY: the watch owns a share of the descriptor, which therefore stays open and the same for as long as it lives.
    unsafe { Watch::register(Rc::clone(socket)) }.map_err(io::Error::from)
}

/// Moves at most `max` bytes; one of the two is a pipe, the other a socket. Does not wait for the pipe. Whether it waits for
/// the socket is [`set_nonblocking`]'s business, in both directions and whatever splice(2) says of `SPLICE_F_NONBLOCK`.
///
/// # Errors
/// `EAGAIN` when it would have to wait, else what splice(2) says.
pub(super) fn splice(from: &impl AsFd, to: &impl AsFd, max: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are borrowed and so stay open for the call; no offsets are given.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), max, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Sets whether system calls on a socket fail instead of waiting. Operations that are in the ring already go on waiting;
/// later ones of the ring fail with `EAGAIN` as well.
///
/// # Errors
/// What ioctl(2) says.
pub(super) fn set_nonblocking(socket: &Socket, nonblocking: bool) -> io::Result<()> {
    let mut value = libc::c_int::from(nonblocking);
    // SAFETY: the argument is one whole integer that outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw mut value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens a pipe of [`limits::PIPE_BYTES`], or a smaller one where the system refuses that: the pipes of one user may hold
/// so many pages only (pipe(7), `pipe-user-pages-soft`).
///
/// # Errors
/// What pipe(2) says, `EPERM` when it would hold less than [`limits::PIPE_BYTES_MIN`].
pub(super) fn pipe() -> io::Result<Ends> {
    let (reader, writer) = io::pipe()?;
    let mut wanted = limits::PIPE_BYTES;
    loop {
        // SAFETY: takes a descriptor that is open and an integer.
        let granted = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, wanted as libc::c_int) };
        if let Ok(capacity) = usize::try_from(granted) {
            return Ok(Ends { reader, writer, capacity });
        }
        wanted /= 2;
        if wanted < limits::PIPE_BYTES_MIN {
            return Err(io::Error::last_os_error());
        }
    }
}

/// Breaks a TCP connection off: the peer gets a reset, everything queued is dropped and pending operations fail.
///
/// That is what Linux does on connecting to `AF_UNSPEC`. Unlike closing with a linger time of zero it does not wait for
/// the last share of the descriptor, and unlike shutdown(2) it sends no FIN the peer could take for an orderly end.
///
/// # Errors
/// When the kernel refuses, for instance because the socket is no TCP socket.
pub(super) fn reset(socket: &Socket) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nobody` is a whole sockaddr of the length given and outlives the call.
    match unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts a connected TCP socket under the kernel's TLS. Until it has keys nothing changes.
///
/// # Errors
/// `ENOENT` when the kernel has no TLS, or a module for it that an unprivileged process cannot load.
pub(super) fn attach_tls(socket: &impl AsFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Gives the kernel's TLS the key of one direction.
///
/// # Errors
/// What setsockopt(2) says: `EINVAL` or `ENOENT` when the kernel has no such cipher, `EBUSY` when there is a key already
/// and it cannot be replaced.
pub(super) fn set_record_key(socket: &impl AsFd, direction: Direction, key: &RecordKey<'_>) -> io::Result<()> {
    let mut info: kernel::CryptoInfo = [0; size_of::<kernel::CryptoInfo>()];
    let result = kernel::crypto_info(key, &mut info)
        .and_then(|len| set_option(socket, libc::SOL_TLS, kernel::option_of(direction), &info[..len]));
    // SAFETY: the array is borrowed for the call and as long as it says.
    unsafe { libc::explicit_bzero(info.as_mut_ptr().cast(), info.len()) };
    result
}

fn set_option(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let (fd, len) = (socket.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the value is borrowed for the call and as long as it says.
    match unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Room for one control message of one byte, aligned as a header wants it.
type ControlRoom = [usize; 4];
// SAFETY: computes a size.
const _: () = assert!(unsafe { libc::CMSG_SPACE(1) } as usize <= size_of::<ControlRoom>());

/// Receives what comes next of a socket under the kernel's TLS and its content type; 0 when there is none, as at the end
/// of the stream. Does not wait.
///
/// # Errors
/// What recvmsg(2) says.
pub(super) fn recv_record(socket: &impl AsFd, into: &mut [u8]) -> io::Result<(u8, usize)> {
    let mut room: ControlRoom = [0; 4];
    let mut vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut message = message(&mut vector, &mut room, size_of::<ControlRoom>());
    // SAFETY: the message points to one vector over `into` and to `room`, all of which outlive the call.
    let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let len = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has set the length of what it wrote into `room`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let is_kind =
        |header: &&libc::cmsghdr| header.cmsg_level == libc::SOL_TLS && header.cmsg_type == kernel::TLS_GET_RECORD_TYPE;
    // SAFETY: a message of that type holds one byte.
    let kind = header.filter(is_kind).map_or(0, |header| unsafe { *libc::CMSG_DATA(header) });
    Ok((kind, len))
}

/// Sends `content` as a record of type `kind` on a socket under the kernel's TLS. Does not wait.
///
/// # Errors
/// `EAGAIN` when it would have to, else what sendmsg(2) says.
pub(super) fn send_record(socket: &impl AsFd, kind: u8, content: &[u8]) -> io::Result<usize> {
    let mut room: ControlRoom = [0; 4];
    // The kernel does not write through it.
    let mut vector = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    // SAFETY: computes a size.
    let message = message(&mut vector, &mut room, unsafe { libc::CMSG_SPACE(1) } as usize);
    // SAFETY: `room` has place for one header, is aligned for it and zeroed, and for the byte behind it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_TLS;
        (*header).cmsg_type = kernel::TLS_SET_RECORD_TYPE;
        (*header).cmsg_len = libc::CMSG_LEN(1) as _;
        *libc::CMSG_DATA(header) = kind;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message points to one vector over `content` and to `room`, all of which outlive the call.
    let n = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

fn message(vector: &mut libc::iovec, room: &mut ControlRoom, room_len: usize) -> libc::msghdr {
    // SAFETY: a message is integers and pointers; all zeroes is an empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = room.as_mut_ptr().cast();
    message.msg_controllen = room_len as _;
    message
}

/// Binds the calling thread to one core.
///
/// # Errors
/// `EINVAL` when the core does not exist or the process may not use it.
pub(super) fn pin_to_core(core: usize) -> io::Result<()> {
    let mut set = no_cores();
    if core >= CORES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `core` is within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is whole and outlives the call; 0 names the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The cores the calling thread may run on.
///
/// # Errors
/// `EINVAL` on machines with more cores than a `cpu_set_t` has bits.
pub(super) fn allowed_cores() -> io::Result<Vec<usize>> {
    let mut set = no_cores();
    // SAFETY: the set is whole and outlives the call; 0 names the calling thread.
    match unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } {
        // SAFETY: every core asked for is within the set.
        0 => Ok((0..CORES_MAX).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a connection is dead in both directions: reset by the peer or disconnected by us.
pub(super) fn is_broken(socket: &Socket) -> bool {
    let mut seen = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one whole structure that outlives the call, which does not wait.
    let count = unsafe { libc::poll(&raw mut seen, 1, 0) };
    count > 0 && seen.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
}

/// The soft and the hard limit of a resource.
///
/// # Errors
/// What getrlimit(2) says.
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is whole and outlives the call.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok((limit.rlim_cur, limit.rlim_max)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open descriptors to the hard one and says what it is now.
///
/// # Errors
/// What setrlimit(2) says.
pub(super) fn raise_descriptor_limit() -> io::Result<u64> {
    let (now, most) = limit(libc::RLIMIT_NOFILE)?;
    if now == most {
        // Sandboxes refuse the call.
        return Ok(now);
    }
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure is whole and outlives the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(most),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The effective user and group (credentials(7)).
pub(super) fn effective_ids() -> (u32, u32) {
    // SAFETY: neither call takes or keeps anything, and neither fails.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// `CLOCK_MONOTONIC` in microseconds, as other processes see it.
pub(super) fn monotonic_usec() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is whole and outlives the call, which fails only for clocks that do not exist.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Takes `count` descriptors over that the parent has left open for this process, from 3 on (sd_listen_fds(3)). Those that
/// are not open are left out; the second call and all later ones get none. They are not passed on to children. To be called
/// before the process has opened anything else: whatever has one of these numbers is taken.
pub(super) fn take_inherited(count: i32) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let open = (0..count.clamp(0, INHERITED_MAX)).map(|n| LISTEN_FDS_START + n).filter(|&fd| {
        // SAFETY: sets a flag of a descriptor, or fails because it is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
    });
    // SAFETY: they are open, the parent says that they are for this process, nothing else was opened before, and they are
    // taken once.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// The first descriptor that is handed over (sd_listen_fds(3)), and how many are taken at most.
const LISTEN_FDS_START: i32 = 3;
pub(super) const INHERITED_MAX: i32 = 64;

fn no_cores() -> libc::cpu_set_t {
    // SAFETY: a CPU set is an array of integers; all zeroes is the empty set.
    unsafe { std::mem::zeroed() }
}

const CORES_MAX: usize = libc::CPU_SETSIZE as usize;
