//! Routes and the upstreams behind them.

use std::collections::HashMap;
use std::path::PathBuf;

use super::file::{Entry, Refused, Section, flag, text};
use super::value::{self, Address, Endpoint};
use crate::limits;
use crate::policy::route::{Mode, Route, UpstreamHost};
use crate::proxy::upstream::UpstreamOptions;
use crate::tls::config::{ClientOptions, Records, Version};

/// Routes in the order of the file, and the upstreams they share.
#[derive(Default)]
pub(super) struct Routing {
    pub(super) routes: Vec<Route>,
    pub(super) upstreams: Vec<UpstreamOptions>,
    /// Who claimed a name first.
    claims: HashMap<String, String>,
    default: Option<String>,
}

impl Routing {
    /// Every `[[route]]` of the document.
    pub(super) fn read(root: &Section<'_>) -> Self {
        let mut routing = Self::default();
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
        let bucket = section.require("bucket", value::bucket);
        let region = section.require("region", value::region);
        let mode = section.read("mode", value::mode);
        let default = section.read("default", flag);
        let hosts = self.hosts(section, default != Ok(Some(false)));
        if default == Ok(Some(true)) {
            self.claim_default(section);
        }
        if bucket.as_ref().is_ok_and(|bucket| bucket.contains('.')) {
            section.warning(
                "bucket",
                "a bucket name with dots is not covered by S3's wildcard certificates, and ShotGrid does not support it",
            );
        }
        let upstream = upstream(&section.section("upstream"), bucket.as_deref().ok(), region.as_deref().ok());
        let (options, host) = upstream?;
        Ok(Route {
            hosts: hosts?,
            default: default?.unwrap_or(false),
            bucket: bucket?,
            region: region?,
            mode: mode?.unwrap_or(Mode::PassThrough),
            host,
            upstream: self.share(options),
        })
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

/// How one route's bucket is reached, and the Host it gets to see.
fn upstream(
    section: &Section<'_>,
    bucket: Option<&str>,
    region: Option<&str>,
) -> Result<(UpstreamOptions, UpstreamHost), Refused> {
    let endpoint = section.read("endpoint", value::endpoint);
    let derived = match (bucket, region, endpoint) {
        (Some(bucket), Some(region), Ok(endpoint)) => derive(section, bucket, region, endpoint),
        _ => Err(Refused),
    };
    let connect = connect(section);
    let plain = plain(section, &connect);
    let server_name = section.read("server-name", value::server_name);
    let host = section.read("host", value::upstream_host);
    let tls = section.section("tls");
    let ca_file = tls.read("ca-file", |value| text(value).map(str::to_string));
    let max_version = tls.read("max-version", value::version);
    if plain == Ok(true) && (section.has("server-name") || tls.is_present()) {
        section.warning("connect", "server-name and tls have no effect on a plain http:// upstream");
    }
    if endpoint == Ok(Some(Endpoint::Global)) {
        warn_of_interface_endpoint(section, &connect);
    }

    let (connect, plain, server_name, host) = (connect?, plain?, server_name?, host?);
    let (ca_file, max_version) = (ca_file?, max_version?);
    let derived_or = |typed: Option<String>| typed.map_or_else(|| derived.clone(), Ok);
    let server_name = derived_or(server_name)?;
    let host = match host {
        Some(host) => host,
        None => UpstreamHost::Replace(derived_or(None)?),
    };
    let connect: Vec<(String, u16)> = match connect {
        Some(entries) => entries.into_iter().map(|entry| (entry.value.host, entry.value.port)).collect(),
        None => vec![(derived_or(None)?, 443)],
    };
    let name = name(&connect, (!plain).then_some(&server_name));
    let tls = (!plain).then(|| ClientOptions {
        server_name,
        ca_file: ca_file.filter(|file| !file.is_empty()).map(PathBuf::from),
        max_version: max_version.unwrap_or(Version::Tls13),
        records: Records::default(),
    });
    Ok((UpstreamOptions { name, connect, tls }, host))
}

/// Where to connect, if it is written down.
fn connect(section: &Section<'_>) -> Result<Option<Vec<Entry<Address>>>, Refused> {
    let Some(entries) = section.list("connect", value::address)? else { return Ok(None) };
    if entries.is_empty() {
        return Err(section.error("connect", "nowhere to connect to; remove the line for the default"));
    }
    if entries.len() > limits::UPSTREAM_ADDRESSES_MAX {
        let message = format!("{} entries are more than {}", entries.len(), limits::UPSTREAM_ADDRESSES_MAX);
        return Err(section.error("connect", message));
    }
    let mut doubled = Ok(());
    for (index, entry) in entries.iter().enumerate() {
        if entries[..index].iter().any(|earlier| earlier.value == entry.value) {
            doubled = Err(section.report().error(&entry.place, "listed twice"));
        }
    }
    doubled.map(|()| Some(entries))
}

/// Whether the upstream is plain HTTP. That takes two things that agree: `http://` in front of every entry, and
/// `allow-plaintext`.
fn plain(section: &Section<'_>, connect: &Result<Option<Vec<Entry<Address>>>, Refused>) -> Result<bool, Refused> {
    let allowed = section.read("allow-plaintext", flag)?.unwrap_or(false);
    let entries = connect.as_ref().map_err(|refused| *refused)?.as_deref().unwrap_or_default();
    let Some(first) = entries.iter().find(|entry| entry.value.plain) else {
        if allowed {
            let message = "nothing in connect begins with http://, so TLS would be used; remove this line, or write \
                           http:// in front of every entry";
            return Err(section.error("allow-plaintext", message));
        }
        return Ok(false);
    };
    if let Some(other) = entries.iter().find(|entry| !entry.value.plain) {
        let message = "this entry is TLS while another is http://; an upstream is one or the other";
        return Err(section.report().error(&other.place, message));
    }
    if !allowed {
        let message = "http:// carries media and signed links readable by the network; write https://, or add \
                       allow-plaintext = true to [route.upstream] if that is meant";
        return Err(section.report().error(&first.place, message));
    }
    Ok(true)
}

/// The name S3 gives the bucket (S3 user guide, "Virtual hosting of buckets").
fn derive(section: &Section<'_>, bucket: &str, region: &str, endpoint: Option<Endpoint>) -> Result<String, Refused> {
    let domain = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
    match endpoint.unwrap_or(Endpoint::Regional) {
        Endpoint::Regional => Ok(format!("{bucket}.s3.{region}.{domain}")),
        Endpoint::Dualstack => Ok(format!("{bucket}.s3.dualstack.{region}.{domain}")),
        Endpoint::Global if domain == "amazonaws.com" && !region.starts_with("us-gov-") => {
            Ok(format!("{bucket}.s3.{domain}"))
        }
        Endpoint::Global => {
            Err(section.error("endpoint", format!("{region} has no global S3 name; write \"regional\"")))
        }
    }
}

/// S3 user guide, "Accessing Amazon S3 interface endpoints": the legacy global name is not served by them.
fn warn_of_interface_endpoint(section: &Section<'_>, connect: &Result<Option<Vec<Entry<Address>>>, Refused>) {
    let Ok(Some(entries)) = connect else { return };
    if let Some(entry) = entries.iter().find(|entry| entry.value.host.contains(".vpce.")) {
        section.report().warning(
            &entry.place,
            "AWS does not support the legacy global S3 name on interface endpoints; if links fail here, connect to an \
             in-VPC hop that uses a gateway endpoint",
        );
    }
}

/// What logs call an upstream: the name its certificate carries and the way there.
fn name(connect: &[(String, u16)], server_name: Option<&String>) -> String {
    let Some((host, port)) = connect.first() else { return String::new() };
    let usual_port = if server_name.is_some() { 443 } else { 80 };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let way = if *port == usual_port { bracketed } else { format!("{bracketed}:{port}") };
    match server_name {
        Some(name) if *name != way => format!("{name} via {way}"),
        _ => way,
    }
}

/// Regions outside `amazonaws.com`, by prefix.
const PARTITIONS: &[(&str, &str)] = &[("cn-", "amazonaws.com.cn"), ("eusc-", "amazonaws.eu")];
