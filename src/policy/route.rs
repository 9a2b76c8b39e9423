//! Which bucket a request is for, decided by the name the client used.

use std::cmp::Ordering;

use super::rules::Rules;

/// What is done with a request of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client's own signature travels to S3, byte for byte.
    PassThrough,
    /// The gate finds out who asks, decides, and signs with credentials of its own.
    ReSign(Box<ReSign>),
}

/// How a route's requests are signed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReSign {
    /// Index of the credentials that sign.
    pub credential: usize,
    /// The buckets. One, and the route's names stand for it; or else the route is an S3 endpoint.
    pub buckets: Vec<Bucket>,
    /// Whether the bucket is part of what the client asks for: `https://NAME/BUCKET/KEY` or `https://BUCKET.NAME/KEY`.
    pub is_endpoint: bool,
    /// Where the upstream wants the bucket.
    pub style: Style,
    /// The `Host` of requests for no bucket; `None` where there are none.
    pub service_host: Option<String>,
    /// Who may do what.
    pub rules: Rules,
    /// Whether the payload is checked against what was signed before the last of it goes upstream.
    pub verify_payload: bool,
}

/// A bucket of a route that signs anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// The `Host` of requests for it.
    pub host: String,
}

/// Where a bucket's name stands in a request ("Virtual hosting of buckets", Amazon S3 User Guide).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// In the host.
    #[default]
    Virtual,
    /// In front of the key.
    Path,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The bucket; `None` for a request about all buckets.
    pub bucket: Option<&'a Bucket>,
    /// The key as received, without its slash; empty for the bucket itself.
    pub key: &'a [u8],
}

impl Route {
    /// What a request of this route for `path` is for, if the route has such a bucket. The route must be one that signs
    /// anew, `resign` its way of doing so.
    #[must_use]
    pub fn place<'a>(&'a self, resign: &'a ReSign, authority: &[u8], path: &'a [u8]) -> Option<Place<'a>> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if !resign.is_endpoint {
            return Some(Place { bucket: resign.buckets.first(), key: path });
        }
        let name = host_of(authority);
        let is_whole = self.hosts.iter().any(|host| name.eq_ignore_ascii_case(host.as_bytes()));
        let in_host = self.hosts.iter().filter(|_| !is_whole).find_map(|host| {
            let (front, end) = name.split_at_checked(name.len().checked_sub(host.len())?)?;
            if end.eq_ignore_ascii_case(host.as_bytes()) { front.strip_suffix(b".") } else { None }
        });
        if let Some(wanted) = in_host {
            let bucket = resign.buckets.iter().find(|bucket| wanted.eq_ignore_ascii_case(bucket.name.as_bytes()))?;
            return Some(Place { bucket: Some(bucket), key: path });
        }
        let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
        if end == 0 {
            return path.is_empty().then_some(Place { bucket: None, key: path });
        }
        let bucket = resign.buckets.iter().find(|bucket| bucket.name.as_bytes() == &path[..end])?;
        Some(Place { bucket: Some(bucket), key: path.get(end + 1..).unwrap_or_default() })
    }
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
                let host = host.to_ascii_lowercase();
                if let Mode::ReSign(resign) = &route.mode
                    && resign.is_endpoint
                {
                    let named = |bucket: &Bucket| format!("{}.{host}", bucket.name).into_bytes().into_boxed_slice();
                    names.extend(resign.buckets.iter().map(|bucket| (named(bucket), index)));
                }
                names.push((host.into_bytes().into_boxed_slice(), index));
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

    fn endpoint() -> Route {
        let bucket = |name: &str| Bucket { name: name.into(), host: format!("{name}.s3.us-west-2.amazonaws.com") };
        let resign = ReSign {
            credential: 0,
            buckets: vec![bucket("media"), bucket("plates")],
            is_endpoint: true,
            style: Style::Virtual,
            service_host: None,
            rules: Rules::default(),
            verify_payload: false,
        };
        Route { mode: Mode::ReSign(Box::new(resign)), ..route("", &["s3.studio.test"], false) }
    }

    #[test]
    fn an_endpoint_finds_its_bucket_in_the_host_or_in_the_path() {
        let table = RouteTable::new(vec![endpoint()]);
        for (host, path, expected) in [
            ("s3.studio.test", "/media/a/b", Some((Some("media"), "a/b"))),
            ("S3.studio.test:443", "/plates/", Some((Some("plates"), ""))),
            ("s3.studio.test", "/plates", Some((Some("plates"), ""))),
            ("s3.studio.test", "/media//a", Some((Some("media"), "/a"))),
            ("s3.studio.test", "/", Some((None, ""))),
            ("s3.studio.test", "", Some((None, ""))),
            ("s3.studio.test", "//a", None),
            ("s3.studio.test", "/other/a", None),
            ("s3.studio.test", "/medi%61/a", None),
            ("s3.studio.test", "/Media/a", None),
            ("media.s3.studio.test", "/a/b", Some((Some("media"), "a/b"))),
            ("PLATES.s3.studio.test.", "/media/b", Some((Some("plates"), "media/b"))),
        ] {
            let route = table.find(host.as_bytes()).unwrap();
            let Mode::ReSign(resign) = &route.mode else { unreachable!() };
            let found = route.place(resign, host.as_bytes(), path.as_bytes());
            let found = found.map(|place| {
                (place.bucket.map(|bucket| bucket.name.as_str()), std::str::from_utf8(place.key).unwrap())
            });
            assert_eq!(found, expected, "{host}{path}");
        }
        for host in ["other.s3.studio.test", "xs3.studio.test", "a.media.s3.studio.test"] {
            assert!(table.find(host.as_bytes()).is_none(), "{host}");
        }
    }

    #[test]
    fn a_route_with_one_bucket_has_it_in_no_request() {
        let mut route = endpoint();
        let Mode::ReSign(resign) = &mut route.mode else { unreachable!() };
        resign.is_endpoint = false;
        let Mode::ReSign(resign) = &route.mode else { unreachable!() };
        let place = route.place(resign, b"s3.studio.test", b"/plates/a").unwrap();
        assert_eq!((place.bucket.unwrap().name.as_str(), place.key), ("media", &b"plates/a"[..]));
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
