//! What happens when descriptors run out; in a process of its own, because it takes them all.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use filmgate::buffer::Buffer;
use filmgate::clock::{self, Deadline};
use filmgate::link::Link;
use filmgate::net::listen::{Accept, Listener, bind};
use filmgate::net::runtime::run_shard;

#[test]
fn running_out_of_descriptors_delays_a_client_and_loses_none() {
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let serve = async move || {
        let listener = Listener::from_std(socket).unwrap();
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let null = File::open("/dev/null").unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = null.try_clone() {
            hoard.push(file);
        }
        client.connect(&address.into()).unwrap();
        tokio_uring::spawn(async move {
            tokio::time::sleep(Duration::from_millis(250)).await;
            drop(hoard);
        });
        let started = clock::mono();
        let Accept::Client(link, _) = listener.accept().await else { panic!("the listener is closed") };
        assert!((200..5000).contains(&started.elapsed().as_millis()));
        let mut hello = Buffer::detached(5);
        hello.append(b"hello");
        link.write_all(hello, Deadline::after(Duration::from_secs(5))).await.0.unwrap();
        let mut got = [0; 5];
        (&client).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    };
    run_shard(None, 8, serve).unwrap();
}
