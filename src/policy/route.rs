//! Which bucket a request is for, decided by the name the client used.

use std::cmp::Ordering;

/// What is done with a request of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client's own signature travels to S3, byte for byte.
    PassThrough,
}

/// The `Host` S3 gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The one the client sent: links were signed for the gate's own name (split-horizon DNS).
    Keep,
    /// The one that was signed, whatever name the client used.
    Replace(String),
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lower-case host names without port that lead here; IPv6 literals in brackets.
    pub hosts: Vec<String>,
    /// Whether names that no route claims lead here too.
    pub default: bool,
    /// The bucket, for logs and messages.
    pub bucket: String,
    /// The bucket's region, for logs and messages.
    pub region: String,
    /// What is done with the request.
    pub mode: Mode,
    /// The `Host` for S3.
    pub host: UpstreamHost,
    /// Index of the upstream that serves the route.
    pub upstream: usize,
}

/// Every route, found by the name the client used.
#[derive(Clone, Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// Lower-case names in byte order, each with the index of its route.
    names: Vec<(Box<[u8]>, usize)>,
    default: Option<usize>,
}

impl RouteTable {
    /// A table of `routes`. Where two claim one name or two are the default, the earlier one wins; configuration
    /// refuses both before it gets here.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let mut names: Vec<(Box<[u8]>, usize)> = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            for host in &route.hosts {
                names.push((host.to_ascii_lowercase().into_bytes().into_boxed_slice(), index));
            }
        }
        names.sort();
        names.dedup_by(|later, earlier| later.0 == earlier.0);
        let default = routes.iter().position(|route| route.default);
        Self { routes, names, default }
    }

    /// The route of a `Host` field value (or the authority of an absolute-form target), else the default route.
    ///
    /// Case, the port and one trailing dot do not matter (RFC 3986 §3.2.2, RFC 9110 §4.2.3). An IPv6 literal is
    /// compared as it is written, in brackets. Allocates nothing.
    #[must_use]
    pub fn find(&self, authority: &[u8]) -> Option<&Route> {
        let name = host_of(authority);
        let index = self.names.binary_search_by(|(known, _)| compare(known, name)).ok();
        let route = index.map(|index| self.names[index].1).or(self.default)?;
        self.routes.get(route)
    }

    /// All routes, in configuration order.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// Byte order of a lower-case name and one in any case.
fn compare(known: &[u8], name: &[u8]) -> Ordering {
    known.iter().copied().cmp(name.iter().map(u8::to_ascii_lowercase))
}

/// The host of an authority: without its port and without the root's dot.
fn host_of(authority: &[u8]) -> &[u8] {
    if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|&byte| byte == b']');
        return match end {
            Some(end) if is_port(&authority[end + 1..]) => &authority[..=end],
            _ => authority,
        };
    }
    let colon = authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len());
    let host = if is_port(&authority[colon..]) { &authority[..colon] } else { authority };
    host.strip_suffix(b".").unwrap_or(host)
}

/// Whether `bytes` is nothing, or a colon and digits (RFC 3986 §3.2.3 allows none).
fn is_port(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(bucket: &str, hosts: &[&str], default: bool) -> Route {
        Route {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            default,
            bucket: bucket.into(),
            region: "us-west-2".into(),
            mode: Mode::PassThrough,
            host: UpstreamHost::Keep,
            upstream: 0,
        }
    }

    fn table() -> Vec<Route> {
        vec![
            route("media", &["s3-proxy.mystudio.com", "media.mystudio.com"], false),
            route("six", &["[::1]", "[2001:db8::a]"], false),
            route("four", &["10.1.2.3", "z"], false),
            route("replica", &["s3-proxy.lon.mystudio.com"], false),
        ]
    }

    const FOUND: &[(&str, Option<&str>)] = &[
        ("s3-proxy.mystudio.com", Some("media")),
        ("media.mystudio.com", Some("media")),
        ("MEDIA.MyStudio.COM", Some("media")),
        ("s3-proxy.mystudio.com:443", Some("media")),
        ("s3-proxy.mystudio.com:", Some("media")),
        ("s3-proxy.mystudio.com.", Some("media")),
        ("S3-PROXY.mystudio.com.:8443", Some("media")),
        ("s3-proxy.lon.mystudio.com", Some("replica")),
        ("[::1]", Some("six")),
        ("[::1]:443", Some("six")),
        ("[2001:DB8::A]:9", Some("six")),
        ("10.1.2.3:80", Some("four")),
        ("Z", Some("four")),
        ("", None),
        (".", None),
        (":443", None),
        ("s3-proxy.mystudio.com..", None),
        ("s3-proxy.mystudio.com:44x", None),
        ("s3-proxy.mystudio.com:1:2", None),
        ("xs3-proxy.mystudio.com", None),
        ("s3-proxy.mystudio.comx", None),
        ("mystudio.com", None),
        ("::1", None),
        ("[::1", None),
        ("[::1]x", None),
        ("[::1].", None),
        ("user@media.mystudio.com", None),
        ("media.mystudio.com\0", None),
    ];

    #[test]
    fn a_name_finds_its_route_whatever_its_case_port_or_trailing_dot() {
        let table = RouteTable::new(table());
        for (authority, expected) in FOUND {
            let found = table.find(authority.as_bytes()).map(|route| route.bucket.as_str());
            assert_eq!(found, *expected, "{authority:?}");
        }
    }

    #[test]
    fn an_unclaimed_name_finds_the_default_route_and_only_that() {
        let mut routes = table();
        routes.push(route("rest", &[], true));
        let table = RouteTable::new(routes);
        for (authority, expected) in FOUND {
            let found = table.find(authority.as_bytes()).map(|route| route.bucket.as_str());
            assert_eq!(found, Some(expected.unwrap_or("rest")), "{authority:?}");
        }
    }

    #[test]
    fn the_earlier_of_two_equal_claims_wins() {
        let routes = vec![route("first", &["A.example"], true), route("second", &["a.example", "b.example"], true)];
        let table = RouteTable::new(routes);
        assert_eq!(table.find(b"a.example").unwrap().bucket, "first");
        assert_eq!(table.find(b"b.example").unwrap().bucket, "second");
        assert_eq!(table.find(b"c.example").unwrap().bucket, "first");
        assert_eq!(table.routes().len(), 2);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert!(RouteTable::new(Vec::new()).find(b"a").is_none());
    }

    #[test]
    fn every_name_of_a_large_table_is_found() {
        let many = |i: usize| route(&format!("bucket-{i}"), &[&format!("host-{i}.example")], false);
        let table = RouteTable::new((0..1000).map(many).collect());
        for i in 0..1000 {
            let found = table.find(format!("HOST-{i}.example:443").as_bytes()).unwrap();
            assert_eq!(found.bucket, format!("bucket-{i}"));
        }
        assert!(table.find(b"host-1000.example").is_none());
    }
}
