//! How a route's buckets are reached, and the Host they get to see.

use std::path::PathBuf;

use crate::config::file::{Entry, Refused, Section, flag, text};
use crate::config::value::{self, Address, BUCKET, Endpoint};
use crate::limits;
use crate::policy::route::{Bucket, Style, UpstreamHost};
use crate::proxy::upstream::UpstreamOptions;
use crate::tls::config::{ClientOptions, Records, Version};

/// What an upstream is for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// None if they have been refused.
    pub(super) buckets: &'a [String],
    pub(super) region: Option<&'a str>,
    /// Whether clients may ask for all buckets.
    pub(super) is_endpoint: bool,
    pub(super) signs_anew: bool,
}

/// An upstream.
pub(super) struct Reached {
    pub(super) options: UpstreamOptions,
    /// The Host of requests that are passed through.
    pub(super) host: UpstreamHost,
    /// The Host of each bucket, for requests that are signed anew.
    pub(super) buckets: Vec<Bucket>,
    /// The Host of requests for no bucket.
    pub(super) service_host: Option<String>,
    pub(super) style: Style,
}

/// How a route's buckets are reached.
pub(super) fn read(section: &Section<'_>, wanted: Wanted<'_>) -> Result<Reached, Refused> {
    let endpoint = section.read("endpoint", value::endpoint);
    let style = section.read("style", value::style);
    if style == Ok(Some(Style::Path)) && !wanted.signs_anew {
        section.error("style", "only with mode = \"re-sign\"; else requests stay as they are");
    }
    let style = style.map(Option::unwrap_or_default);
    let derived = match (wanted.region, endpoint, style) {
        (Some(region), Ok(endpoint), Ok(style)) if !wanted.buckets.is_empty() => {
            derive(section, region, endpoint).map(|service| match (wanted.buckets, style) {
                ([bucket], Style::Virtual) if !wanted.is_endpoint => format!("{bucket}.{service}"),
                _ => service,
            })
        }
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
    let style = style?;
    let derived_or = |typed: Option<String>| typed.map_or_else(|| derived.clone(), Ok);
    let server_name = derived_or(server_name)?;
    let pattern = match host {
        Some(UpstreamHost::Replace(host)) => host,
        Some(UpstreamHost::Keep) => "keep".to_string(),
        None if wanted.is_endpoint && style == Style::Virtual => format!("{BUCKET}.{}", derived_or(None)?),
        None => derived_or(None)?,
    };
    let hosts = hosts(section, wanted, style, pattern);
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
    let (host, buckets, service_host) = hosts?;
    Ok(Reached { options: UpstreamOptions { name, connect, tls }, host, buckets, service_host, style })
}

/// The Host of a request that is passed through, of each bucket, and of none.
type Hosts = (UpstreamHost, Vec<Bucket>, Option<String>);

fn hosts(section: &Section<'_>, wanted: Wanted<'_>, style: Style, pattern: String) -> Result<Hosts, Refused> {
    if pattern == "keep" {
        if wanted.signs_anew {
            return Err(section.error("host", "what is signed anew is signed for a Host of S3's; write its name"));
        }
        return Ok((UpstreamHost::Keep, Vec::new(), None));
    }
    let has_bucket = pattern.contains(BUCKET);
    if has_bucket && style == Style::Path {
        let message = format!("with style = \"path\" the bucket is not in the Host; leave {BUCKET} out");
        return Err(section.error("host", message));
    }
    if !has_bucket && style == Style::Virtual && wanted.buckets.len() > 1 {
        let message = format!("several buckets cannot share one Host; write {BUCKET} in it, or style = \"path\"");
        return Err(section.error("host", message));
    }
    let named = |bucket: &String| Bucket { name: bucket.clone(), host: pattern.replacen(BUCKET, bucket, 1) };
    let buckets: Vec<_> = wanted.buckets.iter().map(named).collect();
    let host = buckets.first().map_or_else(|| pattern.clone(), |bucket| bucket.host.clone());
    let service_host = match style {
        _ if !wanted.is_endpoint => None,
        Style::Path => Some(pattern.clone()),
        Style::Virtual => pattern.strip_prefix(BUCKET).and_then(|rest| rest.strip_prefix('.')).map(str::to_string),
    };
    Ok((UpstreamHost::Replace(host), if wanted.signs_anew { buckets } else { Vec::new() }, service_host))
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

/// The name of S3, which has a bucket's name in front of it (S3 user guide, "Virtual hosting of buckets").
fn derive(section: &Section<'_>, region: &str, endpoint: Option<Endpoint>) -> Result<String, Refused> {
    let domain = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
    match endpoint.unwrap_or(Endpoint::Regional) {
        Endpoint::Regional => Ok(format!("s3.{region}.{domain}")),
        Endpoint::Dualstack => Ok(format!("s3.dualstack.{region}.{domain}")),
        Endpoint::Global if domain == "amazonaws.com" && !region.starts_with("us-gov-") => Ok(format!("s3.{domain}")),
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
