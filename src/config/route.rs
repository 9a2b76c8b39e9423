//! Routes: names, buckets, and who may do what.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::file::{Entry, Refused, Section, flag, text};
use super::rules::{self, Names};
use super::value;
use crate::limits;
use crate::policy::route::{Mode, ReSign, Route};
use crate::policy::rules::Rules;
use crate::proxy::upstream::UpstreamOptions;
use upstream::{Reached, Wanted};

mod upstream;

/// Routes in the order of the file, and the upstreams they share.
#[derive(Default)]
pub(super) struct Routing {
    pub(super) routes: Vec<Route>,
    pub(super) upstreams: Vec<UpstreamOptions>,
    /// Who claimed a name first.
    claims: HashMap<String, String>,
    default: Option<String>,
    names: Names,
}

/// What a route needs to sign anew.
struct Signing {
    credential: usize,
    rules: Rules,
    verify_payload: bool,
}

impl Routing {
    /// Every `[[route]]` of the document, which may speak of `names`.
    pub(super) fn read(root: &Section<'_>, names: Names) -> Self {
        let mut routing = Self { names, ..Self::default() };
        let sections = root.sections("route");
        if sections.is_empty() {
            root.error("route", "there is no [[route]]; a gate needs one, with hosts, bucket and region");
        }
        if sections.len() > limits::ROUTES_MAX {
            root.error("route", format!("{} routes are more than {}", sections.len(), limits::ROUTES_MAX));
            return routing;
        }
        for section in &sections {
            if let Ok(route) = routing.route(section) {
                routing.routes.push(route);
            }
        }
        routing
    }

    fn route(&mut self, section: &Section<'_>) -> Result<Route, Refused> {
        let signs_anew = section.read("mode", value::signs_anew).map(|mode| mode.unwrap_or(false));
        let buckets = buckets(section, signs_anew != Ok(false));
        let region = section.require("region", value::region);
        let signing = self.signing(section, signs_anew);
        let default = section.read("default", flag);
        let hosts = self.hosts(section, default != Ok(Some(false)));
        if default == Ok(Some(true)) {
            self.claim_default(section);
        }
        let buckets_known = buckets.as_deref().unwrap_or_default();
        if buckets_known.iter().any(|bucket| bucket.contains('.')) {
            section.warning(
                if section.has("buckets") { "buckets" } else { "bucket" },
                "a bucket name with dots is not covered by S3's wildcard certificates, and ShotGrid does not support it",
            );
        }
        let is_endpoint = section.has("buckets");
        if let (Ok(hosts), true) = (&hosts, is_endpoint) {
            self.claim_buckets(section, hosts, buckets_known);
        }
        let wanted = Wanted {
            buckets: buckets_known,
            region: region.as_deref().ok(),
            is_endpoint,
            signs_anew: signs_anew.unwrap_or(true),
        };
        let Reached { options, host, buckets: named, service_host, style } =
            upstream::read(&section.section("upstream"), wanted)?;
        let bucket = buckets?.join(", ");
        let mode = match signing? {
            None => Mode::PassThrough,
            Some(Signing { credential, rules, verify_payload }) => Mode::ReSign(Box::new(ReSign {
                credential,
                buckets: named,
                is_endpoint,
                style,
                service_host,
                rules,
                verify_payload,
            })),
        };
        Ok(Route {
            hosts: hosts?,
            default: default?.unwrap_or(false),
            bucket,
            region: region?,
            mode,
            host,
            upstream: self.share(options),
        })
    }

    /// What a route needs to sign anew, or a word about what it does not need.
    fn signing(&self, section: &Section<'_>, signs_anew: Result<bool, Refused>) -> Result<Option<Signing>, Refused> {
        let credential = section.read("credential", value::credential_name);
        let verify_payload = section.read("verify-payload", flag);
        let rules = rules::read(section, &self.names);
        if !signs_anew? {
            let meant = [
                ("credential", matches!(credential, Ok(Some(_)))),
                ("verify-payload", verify_payload == Ok(Some(true))),
                ("allow", !section.strings_in("allow", "clients").is_empty()),
                ("deny", !section.strings_in("deny", "clients").is_empty()),
            ];
            for (key, _) in meant.iter().filter(|(_, is_meant)| *is_meant) {
                let message = "it has no effect: the mode is \"pass-through\", where S3 alone decides; write mode = \
                               \"re-sign\", or remove it";
                section.error(key, message);
            }
            return Ok(None);
        }
        let credential = match credential? {
            Some(name) => {
                let known = self.names.credentials.iter().position(|known| known.as_deref() == Some(&name));
                known.ok_or_else(|| section.error("credential", format!("no [[credential]] is called {name:?}")))
            }
            None => Err(section.missing("credential")),
        };
        if !section.has("allow") || section.is_empty_list("allow") {
            let message = "missing; nothing is allowed that no rule allows: write at least one [[route.allow]]";
            return Err(section.error("allow", message));
        }
        Ok(Some(Signing { credential: credential?, rules: rules?, verify_payload: verify_payload?.unwrap_or(false) }))
    }

    fn hosts(&mut self, section: &Section<'_>, may_be_empty: bool) -> Result<Vec<String>, Refused> {
        let listed = section.list("hosts", value::client_host)?;
        let Some(listed) = listed.filter(|listed| !listed.is_empty()) else {
            if may_be_empty {
                return Ok(Vec::new());
            }
            return Err(if section.has("hosts") {
                section.error("hosts", "no name leads here; list at least one, or write default = true")
            } else {
                section.missing("hosts")
            });
        };
        let mut hosts = Vec::with_capacity(listed.len());
        for Entry { value: host, place } in listed {
            if let Some(earlier) = self.claims.get(&host) {
                section.report().error(&place, format!("{host:?} already leads to {earlier}; a name has one route"));
                continue;
            }
            self.claims.insert(host.clone(), place.key);
            hosts.push(host);
        }
        Ok(hosts)
    }

    /// The names by which clients reach single buckets of an endpoint.
    fn claim_buckets(&mut self, section: &Section<'_>, hosts: &[String], buckets: &[String]) {
        for host in hosts.iter().filter(|host| !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err()) {
            for bucket in buckets {
                let name = format!("{bucket}.{host}");
                let place = section.place("buckets");
                if let Some(earlier) = self.claims.get(&name) {
                    let message =
                        format!("{name:?} would lead here and already leads to {earlier}; a name has one route");
                    section.report().error(&place, message);
                }
                self.claims.insert(name, place.key);
            }
        }
    }

    fn claim_default(&mut self, section: &Section<'_>) {
        let place = section.place("default");
        if let Some(earlier) = &self.default {
            section.error("default", format!("{earlier} is already true; only one route can be the default"));
        } else {
            self.default = Some(place.key);
        }
    }

    /// The index of `options`, which routes that reach S3 the same way share.
    fn share(&mut self, options: UpstreamOptions) -> usize {
        let same = |known: &UpstreamOptions| known.connect == options.connect && known.tls == options.tls;
        if let Some(index) = self.upstreams.iter().position(same) {
            return index;
        }
        self.upstreams.push(options);
        self.upstreams.len() - 1
    }
}

/// The bucket or the buckets of a route.
fn buckets(section: &Section<'_>, may_be_many: bool) -> Result<Vec<String>, Refused> {
    let one = section.read("bucket", |value| text(value).and_then(value::bucket));
    let many = section.list("buckets", value::bucket);
    match (one?, many?) {
        (Some(_), Some(_)) => {
            Err(section.error("buckets", "write either bucket, or buckets for an S3 endpoint, not both"))
        }
        (None, Some(_)) if !may_be_many => {
            Err(section.error("buckets", "only with mode = \"re-sign\"; else a route has one bucket"))
        }
        (None, Some(many)) if many.is_empty() => Err(section.error("buckets", "the list is empty; write at least one")),
        (None, Some(many)) => {
            for (index, entry) in many.iter().enumerate() {
                if many[..index].iter().any(|earlier| earlier.value == entry.value) {
                    return Err(section.report().error(&entry.place, "listed twice"));
                }
            }
            Ok(many.into_iter().map(|entry| entry.value).collect())
        }
        (Some(bucket), None) => Ok(vec![bucket]),
        (None, None) => Err(section.missing("bucket")),
    }
}
