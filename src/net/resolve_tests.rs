use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;

const HALF_MINUTE: Duration = Duration::from_secs(30);

fn upstream(hosts: &[(&str, u16)]) -> Vec<(String, u16)> {
    hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn shown(resolved: &Resolved) -> Vec<String> {
    resolved.addresses.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn answers_of_the_last_five_minutes_add_up() {
    let start = clock::mono();
    let mut book = Book::new(&[upstream(&[("s3.test", 443)])], start);
    book.learn(0, Ok(ips(&["192.0.2.1", "192.0.2.2"])), start, HALF_MINUTE);
    book.learn(0, Ok(ips(&["192.0.2.3", "192.0.2.2"])), start + Duration::from_secs(200), HALF_MINUTE);
    assert_eq!(shown(&book.resolved(0)), ["192.0.2.3:443", "192.0.2.2:443", "192.0.2.1:443"]);
    book.learn(0, Ok(ips(&["192.0.2.4"])), start + Duration::from_secs(300), HALF_MINUTE);
    assert_eq!(shown(&book.resolved(0)), ["192.0.2.4:443", "192.0.2.3:443", "192.0.2.2:443"]);
}

#[test]
fn a_failing_name_keeps_its_addresses_and_is_tried_sooner() {
    let start = clock::mono();
    let mut book = Book::new(&[upstream(&[("s3.test", 80)])], start);
    assert_eq!(book.take_due(start), Ok(0));
    assert!(book.take_due(start).is_err());
    book.learn(0, Ok(ips(&["192.0.2.1"])), start, HALF_MINUTE);
    assert_eq!(book.take_due(start), Err(HALF_MINUTE));
    let much_later = start + Duration::from_secs(900);
    book.learn(0, Err(io::Error::other("SERVFAIL")), much_later, HALF_MINUTE);
    assert_eq!(shown(&book.resolved(0)), ["192.0.2.1:80"]);
    assert_eq!(book.resolved(0).error.unwrap(), "s3.test: SERVFAIL");
    assert_eq!(book.take_due(much_later), Err(Duration::from_secs(1)));
    book.learn(0, Ok(vec![]), much_later, HALF_MINUTE);
    assert_eq!(book.take_due(much_later), Err(Duration::from_secs(2)));
    for _ in 0..100 {
        book.learn(0, Ok(vec![]), much_later, HALF_MINUTE);
    }
    assert_eq!(book.take_due(much_later), Err(HALF_MINUTE));
    book.learn(0, Ok(ips(&["192.0.2.9"])), much_later, HALF_MINUTE);
    assert_eq!(book.resolved(0), Resolved { addresses: vec!["192.0.2.9:80".parse().unwrap()], error: None });
}

#[test]
fn addresses_are_bounded_and_no_host_is_cut_off() {
    let start = clock::mono();
    let hosts = [("many.test", 80), ("many.test", 81), ("192.0.2.200", 82), ("[2001:db8::1]", 83), ("MANY.test", 80)];
    let mut book = Book::new(&[upstream(&hosts)], start);
    assert_eq!(book.names.len(), 1);
    let many: Vec<IpAddr> = (0..250).map(|i| IpAddr::from([192, 0, 2, i])).collect();
    book.learn(0, Ok(many), start, HALF_MINUTE);
    let resolved = book.resolved(0);
    assert_eq!(resolved.addresses.len(), limits::UPSTREAM_ADDRESSES_MAX);
    for expected in ["192.0.2.0:80", "192.0.2.0:81", "192.0.2.200:82", "[2001:db8::1]:83"] {
        assert!(shown(&resolved).contains(&expected.to_owned()), "{expected}");
    }
}

#[test]
fn literal_addresses_are_known_at_once_and_never_looked_up() {
    let lookup: Lookup = Box::new(|host| panic!("looked up {host}"));
    let upstreams = [upstream(&[("127.0.0.1", 9000), ("::1", 9000)])];
    let (resolver, addresses) = Resolver::start_with(&upstreams, HALF_MINUTE, lookup).unwrap();
    assert!(resolver.wait_first(Duration::ZERO));
    assert_eq!(shown(&addresses.snapshot(0)), ["127.0.0.1:9000", "[::1]:9000"]);
}

#[test]
fn a_name_that_hangs_holds_up_no_other_and_failures_recover() {
    let (release, hanging) = mpsc::channel::<()>();
    let (hanging, healthy) = (Mutex::new(hanging), Arc::new(AtomicBool::new(false)));
    let heal = Arc::clone(&healthy);
    let lookup: Lookup = Box::new(move |host| match host {
        "hangs.test" => {
            let _ = hanging.lock().unwrap().recv();
            Err(io::Error::other("gave up"))
        }
        _ if healthy.load(Ordering::SeqCst) => Ok(ips(&["192.0.2.7"])),
        _ => Err(io::Error::other("not yet")),
    });
    let upstreams = [upstream(&[("hangs.test", 80)]), upstream(&[("works.test", 80)])];
    let (resolver, addresses) = Resolver::start_with(&upstreams, Duration::ZERO, lookup).unwrap();
    assert!(!resolver.wait_first(Duration::from_millis(50)));
    assert_eq!(*addresses.snapshot(0), Resolved::default());
    heal.store(true, Ordering::SeqCst);
    let deadline = clock::mono() + Duration::from_secs(20);
    while addresses.snapshot(1).addresses.is_empty() {
        assert!(clock::mono() < deadline, "the name never resolved");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(release);
    assert!(!resolver.wait_first(Duration::from_secs(20)));
    let hung = addresses.snapshot(0);
    assert_eq!((hung.addresses.len(), hung.error.as_deref()), (0, Some("hangs.test: gave up")));
}

#[test]
fn the_system_knows_localhost() {
    let upstreams = [upstream(&[("localhost", 8080)])];
    let (resolver, addresses) = Resolver::start(&upstreams, HALF_MINUTE).unwrap();
    assert!(resolver.wait_first(Duration::from_secs(20)));
    assert!(addresses.snapshot(0).addresses.iter().all(|address| address.ip().is_loopback()));
}

#[test]
fn other_upstreams_are_followed_with_what_is_known_and_no_thread_more_than_needed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let lookup: Lookup = Box::new(move |host| {
        noted.lock().unwrap().push(host.to_owned());
        Ok(ips(&[if host == "kept.test" { "192.0.2.1" } else { "192.0.2.2" }]))
    });
    let before = [upstream(&[("gone.test", 80)]), upstream(&[("kept.test", 80)])];
    let (resolver, old) = Resolver::start_with(&before, HALF_MINUTE, lookup).unwrap();
    assert!(resolver.wait_first(Duration::from_secs(20)));
    let after = [upstream(&[("KEPT.test", 81)]), upstream(&[("new.test", 82), ("10.0.0.1", 83)])];
    let new = resolver.follow(&after).unwrap();
    assert_eq!(shown(&new.snapshot(0)), ["192.0.2.1:81"], "known at once");
    assert!(shown(&new.snapshot(1)).contains(&"10.0.0.1:83".to_owned()));
    assert!(resolver.wait_first(Duration::from_secs(20)));
    assert_eq!(new.snapshot(1).addresses.len(), 2);
    assert_eq!(shown(&old.snapshot(1)), ["192.0.2.1:80"], "who still uses the old ones finds them");
    for _ in 0..100 {
        let _ = resolver.follow(&before).unwrap();
        let _ = resolver.follow(&after).unwrap();
    }
    assert_eq!(resolver.shared.lock().threads, 2);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|host| *host == "kept.test").count(), 1);
}
