//! Sessions whose records somebody else protects: a link that stands in for a kernel with TLS, against rustls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use filmgate::buffer::{Buffer, Pool};
use filmgate::clock::Deadline;
use filmgate::limits::{BUFFER_BYTES, TLS_KEY_RECORDS_MAX, TLS_MESSAGES_MAX};
use filmgate::link::{Cipher, Direction, KernelTls, Link, NotData, RecordKey};
use filmgate::pipe::{Ends, Pipe};
use filmgate::proxy::secure::{Secure, SecureError};
use filmgate::tls::TlsError;
use filmgate::tls::config::{ClientConfig, ServerConfig, Version};
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, RootCertStore};

use crate::ends::{End, Theirs};
use crate::memory::{Memory, buffer_of, ends, run, soon};
use crate::pki::{ECDSA, NAME, pair};

/// Content types (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

pub(crate) const EVERYTHING: KernelTls =
    KernelTls { aes_128_gcm: true, aes_256_gcm: true, chacha20_poly1305: true, rekeys: true };
pub(crate) const OLDER: KernelTls = KernelTls { rekeys: false, ..EVERYTHING };

/// What the stand-in does when it is given keys.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Takes,
    Refuses,
    TakesHalf,
}

struct Key {
    aead: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Key {
    fn new(key: &RecordKey<'_>) -> Self {
        let algorithm = match key.cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::Chacha20Poly1305 => &CHACHA20_POLY1305,
        };
        let aead = LessSafeKey::new(UnboundKey::new(algorithm, key.key).unwrap());
        Self { aead, iv: *key.iv, sequence: key.sequence }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let [high, low] = (content.len() as u16 + 17).to_be_bytes();
        let head = [23, 3, 3, high, low];
        let mut sealed = [content, &[kind]].concat();
        let nonce = self.nonce();
        self.aead.seal_in_place_append_tag(nonce, Aad::from(head), &mut sealed).unwrap();
        [&head[..], &sealed].concat()
    }

    fn open(&mut self, record: &[u8]) -> io::Result<(u8, Vec<u8>)> {
        let (head, mut sealed) = (&record[..5], record[5..].to_vec());
        let nonce = self.nonce();
        let inner = self.aead.open_in_place(nonce, Aad::from(head), &mut sealed);
        let inner = inner.map_err(|_| io::Error::from(TlsError::Decrypt))?;
        let (kind, content) = inner.split_last().unwrap();
        Ok((*kind, content.to_vec()))
    }
}

/// Records that were opened, or that a test puts here because rustls would never say them.
type Opened = Rc<RefCell<VecDeque<(u8, Vec<u8>)>>>;

/// A link whose far side does what a kernel with TLS would.
pub(crate) struct Kernel {
    below: Memory,
    can: KernelTls,
    manner: Manner,
    keys: RefCell<Option<(Key, Key)>>,
    received: RefCell<Vec<u8>>,
    next: Opened,
    has_ended: Cell<bool>,
    /// Bytes of data that are spliced in though nobody sent them.
    imagined: Rc<Cell<u64>>,
}

impl Kernel {
    fn new(below: Memory, can: KernelTls, manner: Manner) -> Self {
        Self::imagining(below, can, manner, &Rc::default())
    }

    pub(crate) fn imagining(below: Memory, can: KernelTls, manner: Manner, imagined: &Rc<Cell<u64>>) -> Self {
        let (keys, received, next) = (RefCell::default(), RefCell::default(), Rc::default());
        Self { below, can, manner, keys, received, next, has_ended: Cell::new(false), imagined: Rc::clone(imagined) }
    }

    /// Opens one record if it is all here and none is open.
    fn look(&self) -> io::Result<()> {
        let mut received = self.received.borrow_mut();
        if !self.next.borrow().is_empty() || received.len() < 5 {
            return Ok(());
        }
        let len = 5 + usize::from(u16::from_be_bytes([received[3], received[4]]));
        if received.len() >= len {
            let record: Vec<u8> = received.drain(..len).collect();
            let opened = self.keys.borrow_mut().as_mut().unwrap().1.open(&record)?;
            self.next.borrow_mut().push_back(opened);
        }
        Ok(())
    }
}

impl Link for Kernel {
    async fn readable(&self, until: Deadline) -> io::Result<()> {
        if self.keys.borrow().is_none() {
            return self.below.readable(until).await;
        }
        self.look()?;
        while self.next.borrow().is_empty() && !self.has_ended.get() {
            let (result, buffer) = self.below.read(Buffer::detached(1000), until).await;
            self.has_ended.set(result? == 0);
            self.received.borrow_mut().extend_from_slice(buffer.filled());
            self.look()?;
        }
        Ok(())
    }

    async fn read(&self, mut into: Buffer, until: Deadline) -> (io::Result<usize>, Buffer) {
        if self.keys.borrow().is_none() {
            return self.below.read(into, until).await;
        }
        let mut has_skipped = false;
        loop {
            if let Err(error) = self.readable(until).await {
                return (Err(error), into);
            }
            // As Linux does, which gives out bytes and not records.
            let mut next = self.next.borrow_mut();
            if next.pop_front_if(|(kind, data)| *kind == DATA && data.is_empty()).is_none() {
                break;
            }
            has_skipped = true;
        }
        let mut next = self.next.borrow_mut();
        let result = match next.front_mut() {
            None => Ok(0),
            Some((DATA, data)) => {
                let n = into.append(data);
                data.drain(..n);
                Ok(n)
            }
            // Also as Linux does: it has received something, and it amounts to nothing.
            Some(_) if has_skipped => Ok(0),
            Some(_) => Err(NotData.into()),
        };
        next.retain(|(kind, data)| *kind != DATA || !data.is_empty());
        (result, into)
    }

    async fn write_all(&self, from: Buffer, until: Deadline) -> (io::Result<()>, Buffer) {
        let sealed =
            self.keys.borrow_mut().as_mut().map(|(key, _)| {
                from.filled().chunks(1 << 14).flat_map(|part| key.seal(DATA, part)).collect::<Vec<_>>()
            });
        let from = sealed.map_or(from, |sealed| buffer_of(&sealed));
        self.below.write_all(from, until).await
    }

    fn can_splice(&self) -> bool {
        true
    }

    async fn splice_in(&self, pipe: &mut Pipe, max: u64, until: Deadline) -> io::Result<usize> {
        let imagined = self.imagined.get().min(max);
        if imagined > 0 {
            self.imagined.set(self.imagined.get() - imagined);
            pipe.filled(imagined as usize);
            return Ok(imagined as usize);
        }
        self.readable(until).await?;
        let mut next = self.next.borrow_mut();
        let Some((DATA, data)) = next.front_mut() else {
            return if next.is_empty() { Ok(0) } else { Err(NotData.into()) };
        };
        let n = data.len().min(max as usize);
        (&pipe.ends().writer).write_all(&data[..n])?;
        pipe.filled(n);
        data.drain(..n);
        next.retain(|(kind, data)| *kind != DATA || !data.is_empty());
        Ok(n)
    }

    async fn splice_out(&self, pipe: &mut Pipe, until: Deadline) -> io::Result<()> {
        let n = pipe.len();
        pipe.drained(n);
        // More than a pipe holds was imagined.
        if n <= pipe.ends().capacity {
            let mut data = vec![0; n];
            (&pipe.ends().reader).read_exact(&mut data)?;
            return self.write_all(buffer_of(&data), until).await.0;
        }
        Ok(())
    }

    fn kernel_tls(&self) -> Option<KernelTls> {
        Some(self.can)
    }

    fn hand_keys(&self, send: &RecordKey<'_>, receive: &RecordKey<'_>) -> io::Result<bool> {
        match self.manner {
            Manner::Refuses => return Ok(false),
            Manner::TakesHalf => return Err(ErrorKind::Other.into()),
            Manner::Takes => *self.keys.borrow_mut() = Some((Key::new(send), Key::new(receive))),
        }
        Ok(true)
    }

    fn next_key(&self, direction: Direction, key: &RecordKey<'_>) -> io::Result<()> {
        assert!(self.can.rekeys, "an older kernel is not asked");
        let mut keys = self.keys.borrow_mut();
        let (send, receive) = keys.as_mut().unwrap();
        *(if direction == Direction::Send { send } else { receive }) = Key::new(key);
        Ok(())
    }

    fn is_control_next(&self) -> bool {
        self.look().is_ok() && self.next.borrow().front().is_some_and(|(kind, _)| *kind != DATA)
    }

    fn read_control(&self, into: &mut [u8]) -> io::Result<(u8, usize)> {
        self.look()?;
        let mut next = self.next.borrow_mut();
        let Some((kind, content)) = next.front_mut() else {
            return if self.has_ended.get() { Ok((0, 0)) } else { Err(ErrorKind::WouldBlock.into()) };
        };
        let n = content.len().min(into.len());
        into[..n].copy_from_slice(&content[..n]);
        content.drain(..n);
        let kind = *kind;
        next.retain(|(_, content)| !content.is_empty());
        Ok((kind, n))
    }

    async fn write_control(&self, kind: u8, content: &[u8], until: Deadline) -> io::Result<()> {
        let sealed = self.keys.borrow_mut().as_mut().unwrap().0.seal(kind, content);
        self.below.write_all(buffer_of(&sealed), until).await.0
    }

    fn interrupt(&self) {
        self.below.interrupt();
    }

    async fn finish(&self, until: Deadline) -> io::Result<()> {
        self.below.finish(until).await
    }

    fn stop_writing(&self) {
        self.below.stop_writing();
    }

    fn abort(&self) {
        self.below.abort();
    }

    async fn closed(&self) {
        self.below.closed().await;
    }

    fn hang_up(&self) {
        self.below.hang_up();
    }
}

pub(crate) async fn say(link: &Memory, bytes: &[u8]) {
    link.write_all(buffer_of(bytes), soon()).await.0.unwrap();
}

pub(crate) async fn hear(link: &Memory, theirs: &mut Theirs) -> Result<(), TlsError> {
    let (result, buffer) = link.read(Buffer::detached(BUFFER_BYTES), soon()).await;
    result.unwrap();
    theirs.take(buffer.filled())
}

pub(crate) async fn read(link: &impl Link) -> io::Result<Vec<u8>> {
    let (result, buffer) = link.read(Buffer::detached(BUFFER_BYTES), soon()).await;
    result.map(|_| buffer.filled().to_vec())
}

/// What `Secure` says went wrong.
fn cause(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// A client of ours over a kernel, and the server it has shaken hands with.
async fn to_server(
    client: &ClientConfig,
    server: &std::sync::Arc<ServerConfig>,
    can: KernelTls,
    manner: Manner,
) -> (Result<Secure<Kernel>, SecureError>, Memory, Theirs) {
    let mut theirs = Theirs::server(server);
    let (here, there) = ends(1 << 20);
    let client = connect(Kernel::new(here, can, manner), client, &there, &mut theirs).await;
    (client, there, theirs)
}

async fn connect(
    kernel: Kernel,
    client: &ClientConfig,
    there: &Memory,
    theirs: &mut Theirs,
) -> Result<Secure<Kernel>, SecureError> {
    let pool = Pool::new(1 << 20);
    let shaking = async {
        while theirs.is_handshaking() {
            // Unless ours breaks the connection off.
            let Ok(bytes) = read(there).await else { return };
            theirs.take(&bytes).unwrap();
            say(there, &theirs.give()).await;
        }
    };
    let (client, ()) = tokio::join!(Secure::connect(kernel, client, &pool, soon()), shaking);
    client.map_err(|failed| failed.cause)
}

async fn connected(can: KernelTls) -> (Secure<Kernel>, Memory, Theirs) {
    let (client, server) = pair(Version::Tls13, &ECDSA);
    let (client, there, theirs) = to_server(&client, &server, can, Manner::Takes).await;
    (client.unwrap(), there, theirs)
}

/// The same with a hand on what the kernel has opened.
async fn connected_with() -> (Secure<Kernel>, Memory, Theirs, Opened) {
    let (client, server) = pair(Version::Tls13, &ECDSA);
    let mut theirs = Theirs::server(&server);
    let (here, there) = ends(1 << 20);
    let kernel = Kernel::new(here, EVERYTHING, Manner::Takes);
    let opened = Rc::clone(&kernel.next);
    let client = connect(kernel, &client, &there, &mut theirs).await.unwrap();
    // The tickets.
    let until = Deadline::after(Duration::from_millis(1));
    assert_eq!(client.readable(until).await.unwrap_err().kind(), ErrorKind::TimedOut);
    (client, there, theirs, opened)
}

fn pipe() -> Pipe {
    let (reader, writer) = io::pipe().unwrap();
    Pipe::detached(Ends { reader, writer, capacity: 64 * 1024 })
}

#[test]
fn a_kernel_carries_a_session_tickets_and_goodbyes_included() {
    run(async {
        let (client_config, server_config) = pair(Version::Tls13, &ECDSA);
        for is_resumed in [false, true] {
            let (ours, there, mut theirs) = to_server(&client_config, &server_config, EVERYTHING, Manner::Takes).await;
            let ours = ours.unwrap();
            assert!(!ours.carries_runs(), "the records are not ours");
            assert_eq!((ours.is_resumed(), ours.version()), (is_resumed, Some(Version::Tls13)));
            // Only tickets have come, and they are no data.
            let until = Deadline::after(Duration::from_millis(1));
            assert_eq!(ours.readable(until).await.unwrap_err().kind(), ErrorKind::TimedOut);

            let data: Vec<u8> = (0..50_000).map(|at: u32| at as u8).collect();
            ours.write_all(buffer_of(&data), soon()).await.0.unwrap();
            hear(&there, &mut theirs).await.unwrap();
            assert!(theirs.plain == data);
            say(&there, &theirs.seal(b"an answer")).await;
            ours.readable(soon()).await.unwrap();
            assert_eq!(read(&ours).await.unwrap(), b"an answer");

            theirs.connection.send_close_notify();
            say(&there, &theirs.give()).await;
            assert_eq!(read(&ours).await.unwrap(), b"");
            ours.finish(soon()).await.unwrap();
            hear(&there, &mut theirs).await.unwrap();
            assert!(theirs.is_closed, "close_notify came before the end");
            assert_eq!(ours.write_all(buffer_of(b"more"), soon()).await.0.unwrap_err().kind(), ErrorKind::InvalidData);
        }
    });
}

/// A server of ours over a kernel gets the end of the client's handshake together with what follows it.
fn server_with(
    behind: impl FnOnce(&mut Theirs) -> (Vec<u8>, Vec<u8>),
    check: impl AsyncFnOnce(Secure<Kernel>, Theirs, Memory),
) {
    run(async {
        let authority = crate::pki::Authority::new();
        let issued = authority.issue("leaf", &[NAME], &ECDSA);
        let server = crate::pki::serving(&[&issued], Version::Tls13);
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let calling = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut theirs = Theirs::client(calling, NAME);
        let (here, there) = ends(1 << 20);
        let pool = Pool::new(1 << 20);
        let accepting = Secure::accept(Kernel::new(here, EVERYTHING, Manner::Takes), &server, &pool, soon());
        let shaking = async {
            say(&there, &theirs.give()).await;
            while theirs.is_handshaking() {
                hear(&there, &mut theirs).await.unwrap();
            }
            let finished = theirs.give();
            let (at_once, later) = behind(&mut theirs);
            say(&there, &[finished, at_once].concat()).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            say(&there, &later).await;
        };
        let (ours, ()) = tokio::join!(accepting, shaking);
        check(ours.unwrap(), theirs, there).await;
    });
}

#[test]
fn what_comes_with_the_handshake_is_opened_before_the_kernel_takes_over() {
    let behind =
        |theirs: &mut Theirs| ([theirs.seal(b"early, "), theirs.seal(b"earlier")].concat(), theirs.seal(b"late"));
    server_with(behind, async |ours, mut theirs, there| {
        assert!(!ours.carries_runs());
        assert_eq!(read(&ours).await.unwrap(), b"early, earlier");
        assert_eq!(read(&ours).await.unwrap(), b"late");
        ours.write_all(buffer_of(b"answer"), soon()).await.0.unwrap();
        hear(&there, &mut theirs).await.unwrap();
        assert_eq!(theirs.plain, b"answer");
    });
}

#[test]
fn a_record_that_came_in_part_is_completed_before_the_kernel_takes_over() {
    for cut in [1, 4, 5, 6, 20] {
        let behind = |theirs: &mut Theirs| {
            let mut wire = [theirs.seal(b"whole, "), theirs.seal(b"cut")].concat();
            let later = wire.split_off(7 + 22 + cut);
            (wire, [later, theirs.seal(b"next")].concat())
        };
        server_with(behind, async |ours, _, _| {
            assert!(!ours.carries_runs(), "the kernel has it");
            assert_eq!(read(&ours).await.unwrap(), b"whole, cut");
            assert_eq!(read(&ours).await.unwrap(), b"next");
        });
    }
}

#[test]
fn a_record_that_stays_cut_keeps_the_session_ours() {
    let behind = |theirs: &mut Theirs| {
        let mut wire = theirs.seal(b"slow");
        let _ = wire.split_off(10);
        (wire, Vec::new())
    };
    server_with(behind, async |ours, _, _| assert!(ours.carries_runs()));
}

#[test]
fn a_client_is_known_by_its_certificate_where_the_kernel_has_the_records() {
    run(async {
        let authority = crate::pki::Authority::new();
        let issued = authority.issue("leaf", &[NAME], &ECDSA);
        let server = crate::pki::asking(&issued, &authority.file);
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(&issued.identity.private_key).unwrap();
        let calling = rustls::ClientConfig::builder().with_root_certificates(roots);
        let calling = calling.with_client_auth_cert(vec![issued.leaf], key).unwrap();
        for is_resumed in [false, true] {
            let mut theirs = Theirs::client(calling.clone(), NAME);
            let (here, there) = ends(1 << 20);
            let pool = Pool::new(1 << 20);
            let accepting = Secure::accept(Kernel::new(here, EVERYTHING, Manner::Takes), &server, &pool, soon());
            let shaking = async {
                say(&there, &theirs.give()).await;
                while theirs.is_handshaking() {
                    hear(&there, &mut theirs).await.unwrap();
                }
                say(&there, &theirs.give()).await;
            };
            let (ours, ()) = tokio::join!(accepting, shaking);
            let ours = ours.unwrap();
            assert!(!ours.carries_runs(), "the kernel has it");
            assert_eq!(ours.is_resumed(), is_resumed);
            assert!(ours.client_names().contains(&NAME.to_owned()), "{:?}", ours.client_names());
            ours.write_all(buffer_of(b"answer"), soon()).await.0.unwrap();
            hear(&there, &mut theirs).await.unwrap();
            assert_eq!(theirs.plain, b"answer");
        }
    });
}

#[test]
fn a_kernel_that_refuses_leaves_the_session_to_us() {
    run(async {
        let (client, server) = pair(Version::Tls13, &ECDSA);
        let no_cipher = KernelTls { rekeys: true, ..KernelTls::default() };
        for (can, manner) in [(EVERYTHING, Manner::Refuses), (no_cipher, Manner::Takes)] {
            let (ours, there, mut theirs) = to_server(&client, &server, can, manner).await;
            let ours = ours.unwrap();
            assert!(ours.carries_runs());
            ours.write_all(buffer_of(b"hello"), soon()).await.0.unwrap();
            hear(&there, &mut theirs).await.unwrap();
            assert_eq!(theirs.plain, b"hello");
            say(&there, &theirs.seal(b"answer")).await;
            assert_eq!(read(&ours).await.unwrap(), b"answer");
        }
    });
}

#[test]
fn a_connection_that_is_half_the_kernels_is_broken_off() {
    run(async {
        let (client, server) = pair(Version::Tls13, &ECDSA);
        let (ours, there, _) = to_server(&client, &server, EVERYTHING, Manner::TakesHalf).await;
        assert!(matches!(ours, Err(SecureError::Link(_))));
        assert_eq!(read(&there).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn tls_1_2_stays_with_the_library() {
    run(async {
        let (client, server) = pair(Version::Tls12, &ECDSA);
        let (ours, there, mut theirs) = to_server(&client, &server, EVERYTHING, Manner::Takes).await;
        let ours = ours.unwrap();
        assert_eq!(ours.version(), Some(Version::Tls12));
        ours.write_all(buffer_of(b"hello"), soon()).await.0.unwrap();
        hear(&there, &mut theirs).await.unwrap();
        assert_eq!(theirs.plain, b"hello");
    });
}

#[test]
fn keys_change_both_ways_where_the_kernel_can() {
    run(async {
        let (ours, there, mut theirs) = connected(EVERYTHING).await;
        for round in 0..5_u8 {
            theirs.connection.refresh_traffic_keys().unwrap();
            say(&there, &theirs.seal(&[round; 100])).await;
            assert_eq!(read(&ours).await.unwrap(), [round; 100]);
            // Asked for in return: it goes before our data.
            ours.write_all(buffer_of(&[round; 10]), soon()).await.0.unwrap();
            hear(&there, &mut theirs).await.unwrap();
            assert_eq!(theirs.plain, vec![round; 10]);
            theirs.plain.clear();
        }
    });
}

#[test]
fn an_older_kernel_cannot_follow_new_keys() {
    run(async {
        let (ours, there, mut theirs) = connected(OLDER).await;
        theirs.connection.refresh_traffic_keys().unwrap();
        say(&there, &theirs.seal(b"under the new key")).await;
        let failed = read(&ours).await.unwrap_err();
        assert_eq!(cause(&failed), Some(&TlsError::KernelKeys));
        assert!(failed.to_string().contains("tls.kernel"), "{failed}");
        assert_eq!(hear(&there, &mut theirs).await, Err(TlsError::Alert(AlertDescription::InternalError)));
        assert!(ours.write_all(buffer_of(b"more"), soon()).await.0.is_err());
    });
}

#[test]
fn key_updates_without_data_come_to_an_end() {
    run(async {
        let (ours, there, mut theirs) = connected(EVERYTHING).await;
        for _ in 0..=TLS_MESSAGES_MAX {
            theirs.connection.refresh_traffic_keys().unwrap();
            say(&there, &theirs.give()).await;
        }
        let failed = read(&ours).await.unwrap_err();
        assert!(matches!(cause(&failed), Some(TlsError::Protocol(_))), "{failed}");
        assert_eq!(hear(&there, &mut theirs).await, Err(TlsError::Alert(AlertDescription::UnexpectedMessage)));
    });
}

#[test]
fn an_end_without_a_goodbye_is_told_from_one_with_it() {
    run(async {
        let (ours, there, mut theirs) = connected(EVERYTHING).await;
        say(&there, &theirs.seal(b"half of it")).await;
        there.finish(soon()).await.unwrap();
        assert_eq!(read(&ours).await.unwrap(), b"half of it");
        for _ in 0..2 {
            assert_eq!(read(&ours).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        assert!(!ours.is_quiet());
    });
}

#[test]
fn a_record_that_was_changed_ends_the_session() {
    run(async {
        let (ours, there, mut theirs) = connected(EVERYTHING).await;
        let mut wire = theirs.seal(b"genuine");
        wire[9] ^= 1;
        say(&there, &wire).await;
        for _ in 0..2 {
            assert_eq!(cause(&read(&ours).await.unwrap_err()), Some(&TlsError::Decrypt));
        }
        assert_eq!(hear(&there, &mut theirs).await, Err(TlsError::Alert(AlertDescription::BadRecordMac)));
    });
}

#[test]
fn a_wait_for_data_can_be_interrupted_and_goes_on() {
    run(async {
        let (ours, there, mut theirs) = connected(EVERYTHING).await;
        let interrupting = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ours.interrupt();
        };
        let (waited, ()) = tokio::join!(ours.readable(soon()), interrupting);
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::Interrupted);
        say(&there, &theirs.seal(b"then")).await;
        assert_eq!(read(&ours).await.unwrap(), b"then");
    });
}

#[test]
fn data_is_spliced_both_ways() {
    run(async {
        let (ours, there, mut theirs, _) = connected_with().await;
        let mut pipe = pipe();
        say(&there, &theirs.seal(b"through the pipe")).await;
        assert_eq!(ours.splice_in(&mut pipe, 7, soon()).await.unwrap(), 7);
        ours.splice_out(&mut pipe, soon()).await.unwrap();
        hear(&there, &mut theirs).await.unwrap();
        assert_eq!(theirs.plain, b"through");
        assert_eq!(ours.splice_in(&mut pipe, 100, soon()).await.unwrap(), 9);
    });
}

#[test]
fn a_record_without_content_is_no_end_to_a_splice() {
    run(async {
        let (ours, there, mut theirs, opened) = connected_with().await;
        let mut pipe = pipe();
        for round in [1, 2] {
            opened.borrow_mut().push_back((DATA, Vec::new()));
            say(&there, &theirs.seal(&[round; 4])).await;
            let unfit = ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err();
            assert!(NotData::is(&unfit), "a reader is to see: {unfit}");
            assert_eq!(read(&ours).await.unwrap(), [round; 4]);
        }
        opened.borrow_mut().push_back((DATA, Vec::new()));
        say(&there, &theirs.seal(b"read over")).await;
        assert_eq!(read(&ours).await.unwrap(), b"read over");
        // A true end looks the same at first.
        there.finish(soon()).await.unwrap();
        assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
        assert_eq!(read(&ours).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
    });
}

#[test]
fn what_comes_behind_a_record_without_content_is_no_end_either() {
    for splices in [false, true] {
        run(async {
            let (ours, there, mut theirs, opened) = connected_with().await;
            let mut pipe = pipe();
            let mut push_empty = async || {
                opened.borrow_mut().push_back((DATA, Vec::new()));
                if splices {
                    assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
                }
            };
            push_empty().await;
            theirs.connection.refresh_traffic_keys().unwrap();
            say(&there, &theirs.seal(b"under the new key")).await;
            assert_eq!(read(&ours).await.unwrap(), b"under the new key");
            push_empty().await;
            theirs.connection.send_close_notify();
            say(&there, &theirs.give()).await;
            assert_eq!(read(&ours).await.unwrap(), b"", "an orderly end");
        });
    }
}

#[test]
fn what_is_no_data_stops_a_splice_until_it_is_read() {
    run(async {
        let (ours, there, mut theirs, _) = connected_with().await;
        let mut pipe = pipe();
        theirs.connection.refresh_traffic_keys().unwrap();
        say(&there, &theirs.seal(b"under the new key")).await;
        assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
        assert_eq!(read(&ours).await.unwrap(), b"under the new key");
        theirs.connection.send_close_notify();
        say(&there, &theirs.give()).await;
        assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
        assert_eq!(read(&ours).await.unwrap(), b"");
    });
}

#[test]
fn data_in_the_middle_of_a_message_is_refused_aloud() {
    for splices in [false, true] {
        run(async {
            let (ours, there, mut theirs, opened) = connected_with().await;
            // The front of a ticket, and then no more of it (RFC 8446 §5.1).
            opened.borrow_mut().extend([(HANDSHAKE, vec![4, 0, 0, 30, 1, 2]), (DATA, b"data".to_vec())]);
            let mut pipe = pipe();
            let failed = if splices {
                assert!(NotData::is(&ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()));
                ours.readable(soon()).await.unwrap();
                ours.splice_in(&mut pipe, 100, soon()).await.unwrap_err()
            } else {
                read(&ours).await.unwrap_err()
            };
            assert!(matches!(cause(&failed), Some(TlsError::Protocol(_))), "{failed}");
            assert_eq!(hear(&there, &mut theirs).await, Err(TlsError::Alert(AlertDescription::UnexpectedMessage)));
            assert_eq!(cause(&read(&ours).await.unwrap_err()), cause(&failed), "for good");
        });
    }
}

#[test]
fn a_key_update_behind_a_long_body_does_not_look_like_more() {
    run(async {
        let (ours, there, mut theirs, _) = connected_with().await;
        say(&there, &theirs.seal(&[7; 5000])).await;
        assert_eq!(read(&ours).await.unwrap().len(), 5000);
        ours.write_all(buffer_of(b"an answer"), soon()).await.0.unwrap();
        theirs.connection.refresh_traffic_keys().unwrap();
        say(&there, &theirs.give()).await;
        assert_eq!(ours.readable(soon()).await.unwrap_err().kind(), ErrorKind::TimedOut);

        let mut pipe = pipe();
        say(&there, &theirs.seal(&[7; 5000])).await;
        assert_eq!(ours.splice_in(&mut pipe, 5000, soon()).await.unwrap(), 5000);
        ours.splice_out(&mut pipe, soon()).await.unwrap();
        theirs.connection.refresh_traffic_keys().unwrap();
        say(&there, &theirs.give()).await;
        assert_eq!(ours.readable(soon()).await.unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// Bytes that may go out under one key.
pub(crate) const KEY_BYTES: u64 = TLS_KEY_RECORDS_MAX << 14;

#[test]
fn a_key_that_cannot_be_replaced_wears_out_before_it_is_spent() {
    run(async {
        for can in [OLDER, EVERYTHING] {
            let (ours, there, mut theirs) = connected(can).await;
            let mut pipe = pipe();
            for (bytes, is_worn) in [(KEY_BYTES, false), (1, true), (KEY_BYTES - 1, true)] {
                pipe.filled(bytes as usize);
                match bytes {
                    1 => (&pipe.ends().writer).write_all(b"x").unwrap(),
                    _ => assert!(bytes > 1 << 30),
                }
                ours.splice_out(&mut pipe, soon()).await.unwrap();
                assert_eq!(ours.is_worn(), is_worn && !can.rekeys);
            }
            let more = ours.write_all(buffer_of(b"more"), soon()).await.0;
            assert_eq!(more.is_ok(), can.rekeys, "{more:?}");
            hear(&there, &mut theirs).await.unwrap();
            assert_eq!(theirs.plain, if can.rekeys { &b"xmore"[..] } else { b"x" });
        }
    });
}
