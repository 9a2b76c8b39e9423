//! `filmgate policy explain`: what the rules say of a request, and why.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use super::file;
use crate::clock;
use crate::http::head::RequestHead;
use crate::policy::authorize::{self, Ask, Asker};
use crate::policy::identity::{Client, Presence};
use crate::policy::route::{Mode, ReSign, Route, RouteTable};
use crate::policy::rules::{Demand, Miss, Rules, Verdict};
use crate::s3::delete::Deletion;
use crate::s3::escape;
use crate::s3::features::{self, FeatureSet};
use crate::s3::operation::{self, Level};
use crate::s3::target::Target;
use crate::server::{Options, clients};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Question {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = super::cli::DEFAULT_FILE)]
    pub config: PathBuf,
    /// Name by which the client reaches the gate; may be left out if only one route has mode = "re-sign"
    #[arg(long, value_name = "HOST")]
    pub route: Option<String>,
    /// Name of the [[client]] who asks
    #[arg(long, value_name = "NAME")]
    pub client: String,
    /// Where it comes from; else its addresses are not looked at
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// A name in its certificate (repeat for each); else its certificate-names are not looked at
    #[arg(long, value_name = "NAME")]
    pub certificate_name: Vec<String>,
    /// A field of the request, such as "x-amz-acl: private" (repeat for each)
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub fields: Vec<String>,
    /// A key in the body of a DeleteObjects, or of a form (repeat for each)
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// Method, such as GET
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// Path and query, such as "/shots/a.exr?acl"
    #[arg(value_name = "TARGET")]
    pub target: String,
}

/// Whether the request is allowed, and a text that says so and why.
///
/// # Errors
/// Why the question has no answer.
pub(super) fn explain(text: &str, options: &Options, question: &Question) -> Result<(bool, String), String> {
    let table = RouteTable::new(options.routes.clone());
    let (route, authority) = route_of(&table, question.route.as_deref())?;
    let Mode::ReSign(resign) = &route.mode else {
        return Err(format!("the route of {authority} passes requests through: S3 alone decides"));
    };
    let clients = clients::clients(&options.clients);
    let id = clients.named(&question.client).ok_or_else(|| format!("no [[client]] is called {:?}", question.client))?;
    let client = clients.get(id);
    let head = format!("{} {} HTTP/1.1\r\nhost: {authority}\r\n", question.method, question.target);
    let head = question.fields.iter().fold(head, |head, field| format!("{head}{field}\r\n")) + "\r\n";
    let block = head.as_bytes();
    let parsed = RequestHead::parse(block).map_err(|error| format!("this is no request: {error:?}"))?;
    let target = Target::parse(parsed.target(block));
    if !target.path().starts_with(b"/") {
        return Err(format!("{:?} is no target; it begins with a slash", question.target));
    }

    let mut out = String::new();
    let index = options.routes.iter().position(|known| known == route).unwrap_or_default();
    let signs = client.access_key.as_deref().map_or("without signature".to_string(), |key| format!("signs as {key}"));
    let _ = writeln!(out, "client  {} ({signs})", client.name);
    let _ = writeln!(out, "route   {authority} to {}", route.bucket);
    if let Some(refused) = presence(client, question, &mut out) {
        return Ok((false, out + refused));
    }
    let Some(place) = route.place(resign, authority.as_bytes(), target.path()) else {
        return Ok((false, out + "refused: the route has no such bucket\n"));
    };
    let level = match place.bucket {
        None => Level::Service,
        Some(_) if place.key.is_empty() => Level::Bucket,
        Some(_) => Level::Object,
    };
    let method = parsed.method(block);
    let features = match features::read(method, level, target, &parsed.fields, block) {
        Ok(features) => features,
        Err(unknown) => return Ok((false, format!("{out}refused: {unknown}\n"))),
    };
    let copy_source = parsed.fields.get(block, "x-amz-copy-source");
    let plain = operation::at(method, level, target);
    let operation = if copy_source.is_some() { operation::copying(plain) } else { plain };
    let key = escape::decode(place.key);
    let ask = Ask { operation, key: &key, features, target, copy_source };
    let keys: Vec<_> =
        question.key.iter().map(|key| Deletion { key: key.clone().into(), has_version: false }).collect();
    let demands = match demands(&ask, &keys, resign) {
        Ok(demands) => demands,
        Err(refused) => return Ok((false, format!("{out}refused: {}\n", refused.message()))),
    };
    if demands.is_empty() {
        return Err(format!("what {operation} asks for is in its body; say it with --key"));
    }
    let asker = Asker { client: id, is_keyed: client.access_key.is_some() };
    let place = |list: &str, rule: usize| {
        let key = format!("route[{index}].{list}[{rule}]");
        let line = file::locate(text, &key).map_or(String::new(), |line| format!(" (line {line})"));
        format!("{key}{line}")
    };
    for demand in &demands {
        tell(&mut out, &resign.rules, asker, demand, &place);
    }
    match authorize::authorize(&resign.rules, asker, demands) {
        Ok(_) => Ok((true, out + "allowed\n")),
        Err(refused) => Ok((false, format!("{out}refused: {}\n", refused.message()))),
    }
}

/// The route of a name, or the only one that there could be a question about.
fn route_of<'a>(table: &'a RouteTable, host: Option<&str>) -> Result<(&'a Route, String), String> {
    if let Some(host) = host {
        let route = table.find(host.as_bytes());
        return route.map(|route| (route, host.to_string())).ok_or_else(|| format!("no route has the name {host:?}"));
    }
    let mut signing = table.routes().iter().filter(|route| route.mode != Mode::PassThrough);
    match (signing.next(), signing.next()) {
        (Some(route), None) => {
            Ok((route, route.hosts.first().cloned().unwrap_or_else(|| "default.invalid".to_string())))
        }
        (None, _) => Err("no route has mode = \"re-sign\", so there are no rules".to_string()),
        (Some(_), Some(_)) => Err("several routes have mode = \"re-sign\"; choose one with --route HOST".to_string()),
    }
}

/// What is said of where the client is and what its certificate carries; a text if it is not admitted.
fn presence(client: &Client, question: &Question, out: &mut String) -> Option<&'static str> {
    let mut asked = client.clone();
    if question.address.is_none() && !client.networks.is_empty() {
        asked.networks.clear();
        out.push_str("        its addresses are not looked at: say where it is with --address\n");
    }
    if question.certificate_name.is_empty() && !client.certificate_names.is_empty() {
        asked.certificate_names.clear();
        out.push_str("        its certificate is not looked at: say what is in it with --certificate-name\n");
    }
    // A client without key and guards is nobody; here some of its guards have only been left out of the question.
    asked.access_key = asked.access_key.or(Some(String::new()));
    let presence = Presence {
        address: question.address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        certificate_names: &question.certificate_name,
        now: clock::now().wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let refused = asked.admits(&presence).err()?;
    out.push_str("refused: ");
    out.push_str(refused.message());
    Some("\n")
}

fn demands<'a>(ask: &Ask<'a>, keys: &'a [Deletion], resign: &ReSign) -> Result<Vec<Demand<'a>>, authorize::Refused> {
    match ask.operation {
        "DeleteObjects" => Ok(authorize::deletions(keys, ask.features).collect()),
        "PostObject" => Ok(keys.iter().map(|key| authorize::post(&key.key, ask.features)).collect()),
        _ => Ok(authorize::demands(ask, &resign.buckets)?.collect()),
    }
}

fn tell(out: &mut String, rules: &Rules, asker: Asker, demand: &Demand<'_>, place: &dyn Fn(&str, usize) -> String) {
    let Asker { client, is_keyed } = asker;
    let _ = writeln!(out, "{} \"{}\"{}", demand.operation, demand.key.escape_ascii(), listed(demand.features));
    match rules.decide(client, is_keyed, demand) {
        Verdict::Allowed { rule } => {
            let _ = writeln!(out, "        allowed by {}", place("allow", rule));
        }
        Verdict::Denied { rule } => {
            let _ = writeln!(out, "        denied by {}", place("deny", rule));
        }
        Verdict::NotAllowed => {
            out.push_str("        no rule allows it\n");
            for (rule, miss) in rules.misses(client, is_keyed, demand).enumerate() {
                let _ = writeln!(out, "        {}: {}", place("allow", rule), miss.map_or(String::new(), why));
            }
        }
    }
}

fn why(miss: Miss) -> String {
    match miss {
        Miss::Client => "it is about other clients".to_string(),
        Miss::Operation => "it does not name the operation".to_string(),
        Miss::Unsigned => {
            "a client without access-key may not do that, or only where a rule names the operation itself".to_string()
        }
        Miss::Prefix => "it is about other keys".to_string(),
        Miss::Features(features) => {
            let names: Vec<_> = features.iter().map(|feature| format!("{:?}", feature.name())).collect();
            format!("its features lack {}", names.join(", "))
        }
    }
}

fn listed(features: FeatureSet) -> String {
    let names: Vec<_> = features.iter().map(|feature| feature.name()).collect();
    if names.is_empty() { String::new() } else { format!(" with {}", names.join(", ")) }
}
