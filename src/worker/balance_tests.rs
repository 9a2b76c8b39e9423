use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::clock::{self, Deadline};

const NO_MAX: usize = 1000;

/// An accepted connection and its client.
fn arrival() -> (Arrival, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, from) = listener.accept().unwrap();
    (Arrival::new(socket.into(), from), client)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { clock::within(Deadline::after(Duration::from_secs(20)), future).await.expect("it hangs") })
}

/// Has shard `number` accept so many connections and seat those that it keeps.
fn accept(member: &Member, count: usize) -> Vec<TcpStream> {
    let accepted = (0..count).map(|_| {
        let (arrival, client) = arrival();
        if member.hand_over(arrival, 0).is_some() {
            member.load().arrive();
        }
        client
    });
    accepted.collect()
}

#[test]
fn a_connection_goes_to_the_least_loaded_shard_if_that_is_well_ahead() {
    let idle = |connections| Seen { connections, weight: connections };
    let busy = |connections, bodies| Seen { connections, weight: connections + bodies * limits::LONG_BODY_WEIGHT };
    let table: &[(&[Seen], usize, Option<usize>)] = &[
        (&[idle(5)], 0, None),
        (&[idle(0), idle(0)], 0, None),
        (&[idle(1), idle(0)], 0, Some(1)),
        (&[idle(1), idle(0)], 1, None),
        (&[idle(0), idle(1)], 1, Some(0)),
        (&[idle(3), idle(2), idle(1), idle(1)], 0, Some(2)),
        (&[idle(3), idle(2), idle(1), idle(1)], 3, None),
        (&[busy(1, 1), idle(1)], 0, Some(1)),
        (&[busy(1, 1), idle(16)], 0, None),
        (&[busy(1, 1), idle(17)], 1, None),
        (&[busy(1, 1), idle(20)], 1, Some(0)),
        (&[idle(68), idle(64)], 0, None),
        (&[idle(69), idle(64)], 0, Some(1)),
        (&[idle(908), idle(900)], 0, None),
        (&[idle(909), idle(900)], 0, Some(1)),
        (&[busy(900, 2), busy(900, 1)], 0, Some(1)),
        (&[busy(999, 9), idle(1000)], 0, None),
        (&[busy(999, 9), idle(1000), busy(999, 8)], 0, Some(2)),
        (&[idle(1000), busy(999, 90), busy(998, 80)], 0, Some(2)),
        (&[idle(1000), idle(1000)], 0, None),
    ];
    for (row, (shards, own, expected)) in table.iter().enumerate() {
        assert_eq!(lighter(shards.iter().copied(), *own, NO_MAX), *expected, "row {row}");
    }
}

#[test]
fn a_burst_that_one_shard_accepts_spreads_over_all_before_any_other_has_looked() {
    let balance = Balance::new(4, NO_MAX);
    let members: Vec<_> = (0..4).map(|number| balance.join(number)).collect();
    let _clients = accept(&members[2], 64);
    let connections = balance.connections();
    assert_eq!(connections.iter().sum::<usize>(), 64);
    assert!(connections.iter().all(|count| (15..=17).contains(count)), "{connections:?}");
}

#[test]
fn connections_avoid_a_shard_that_carries_a_long_body() {
    let balance = Balance::new(2, NO_MAX);
    let members = [balance.join(0), balance.join(1)];
    let load = members[0].load();
    let carrying = load.carry();
    let _clients = accept(&members[0], limits::LONG_BODY_WEIGHT);
    assert_eq!(balance.connections(), [0, limits::LONG_BODY_WEIGHT]);
    drop(carrying);
    let _clients = accept(&members[1], 2);
    assert_eq!(balance.connections(), [2, limits::LONG_BODY_WEIGHT]);
}

#[test]
fn a_shard_that_has_not_joined_or_has_closed_or_is_full_gets_nothing() {
    let balance = Balance::new(2, NO_MAX);
    let first = balance.join(0);
    let _clients = accept(&first, 3);
    assert_eq!(balance.connections(), [3, 0]);
    let second = balance.join(1);
    let _clients = accept(&first, 1);
    assert_eq!(balance.connections(), [3, 1]);
    second.close();
    let _clients = accept(&first, 3);
    assert_eq!(balance.connections(), [6, 1]);
    let full = Balance::new(2, 1);
    let (first, _second) = (full.join(0), full.join(1));
    let _clients = accept(&first, 4);
    assert_eq!(full.connections(), [3, 1]);
}

#[test]
fn of_two_shards_that_see_the_last_place_one_gets_it_and_the_other_leaves_no_trace() {
    let load = Arc::new(Load::default());
    load.arrive();
    let first = Claim::new(Arc::clone(&load), 2);
    assert!(first.is_some() && Claim::new(Arc::clone(&load), 2).is_none());
    assert_eq!(load.connections(), 2);
    drop(first);
    assert!(Claim::new(Arc::clone(&load), 2).is_some());
}

#[test]
fn a_full_inbox_takes_nothing_more() {
    crate::net::runtime::raise_descriptor_limit().unwrap();
    let (balance, from) = (Balance::new(2, usize::MAX), "127.0.0.1:1".parse().unwrap());
    let (first, _second) = (balance.join(0), balance.join(1));
    first.load().arrive();
    let carried: Vec<_> = (0..limits::HANDED_OVER_MAX).map(|_| first.own().load.carry()).collect();
    let socket = || Arrival::new(std::fs::File::open("/dev/null").unwrap().into(), from);
    for _ in 0..limits::HANDED_OVER_MAX {
        assert!(first.hand_over(socket(), 0).is_none());
    }
    assert!(first.hand_over(socket(), 0).is_some());
    assert_eq!(balance.connections(), [1, limits::HANDED_OVER_MAX]);
    drop(carried);
}

#[test]
fn a_waiting_shard_is_woken_from_another_thread_and_gets_what_is_there_when_it_closes() {
    let balance = Balance::new(2, NO_MAX);
    let (first, second) = (balance.join(0), balance.join(1));
    let _clients = accept(&first, 1);
    let giver = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        let (arrival, client) = arrival();
        assert!(first.hand_over(arrival, 7).is_none());
        (first, client)
    });
    let handed = run(second.taken_over()).unwrap();
    assert_eq!((handed.listener, balance.connections()), (7, vec![1, 1]));
    drop(handed);
    let (first, _client) = giver.join().unwrap();
    let _more = accept(&first, 1);
    second.close();
    assert!(run(second.taken_over()).is_some());
    assert!(run(second.taken_over()).is_none());
    assert_eq!(balance.connections(), [1, 0]);
}

#[test]
fn a_shard_that_dies_lets_go_of_whoever_is_on_the_way_to_it() {
    let balance = Balance::new(2, NO_MAX);
    let (first, second) = (balance.join(0), balance.join(1));
    let _clients = accept(&first, 4);
    assert_eq!(balance.connections(), [2, 2]);
    drop(second);
    assert_eq!(balance.connections(), [2, 0]);
    let _clients = accept(&first, 2);
    assert_eq!(balance.connections(), [4, 0]);
}
