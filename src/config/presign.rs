//! `filmgate presign`: a link for tests and operators.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::cli;
use super::value;
use crate::clock;
use crate::creds::store::Store;
use crate::policy::route::{Mode, ReSign, Route, RouteTable, Style};
use crate::s3::escape::{self, Slash};
use crate::server::{Options, clients};
use crate::sign::credentials::Credentials;
use crate::sign::key::{Scope, SigningKey};
use crate::sign::request::{Composer, Signer};
use crate::sign::time::Stamp;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct PresignArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = cli::DEFAULT_FILE)]
    config: PathBuf,
    /// Name by which clients reach the route, with its port if that is not 443
    #[arg(long, value_name = "HOST")]
    route: String,
    /// Sign with the key of this [[client]], for the gate; without it, with the route's role, for the storage itself
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// How long the link is good, such as 15m; seven days at most
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = value::time_typed)]
    expires: Duration,
    /// Method the link is good for
    #[arg(value_name = "METHOD")]
    method: String,
    /// Path as clients of the route write it, and a query if there is one; what may not stand in a path is encoded
    #[arg(value_name = "/KEY")]
    path: String,
}

/// Prints the link.
#[must_use]
pub fn run(arguments: &PresignArguments) -> ExitCode {
    let options = match cli::load(&arguments.config) {
        Ok(options) => options,
        Err(code) => return code,
    };
    match link(&options, arguments) {
        Ok(link) => cli::say(&format!("{link}\n")),
        Err(why) => {
            cli::complain(&format!("filmgate: {why}\n"));
            ExitCode::from(cli::REFUSED)
        }
    }
}

fn link(options: &Options, arguments: &PresignArguments) -> Result<String, String> {
    let method = arguments.method.to_ascii_uppercase();
    if !["GET", "HEAD", "PUT", "DELETE", "POST"].contains(&method.as_str()) {
        return Err(format!("{method:?} is no method a link can be for; write GET, HEAD, PUT, POST or DELETE"));
    }
    if arguments.expires < Duration::from_secs(1) || arguments.expires > LINK_TIME_MAX {
        return Err("a link is good for one second to seven days".to_string());
    }
    let table = RouteTable::new(options.routes.clone());
    let route = table.find(arguments.route.as_bytes()).ok_or(format!("no route has the name {:?}", arguments.route))?;
    let Mode::ReSign(resign) = &route.mode else {
        return Err(
            "the route passes signatures through and has none of its own; only mode = \"re-sign\" does".to_string()
        );
    };
    let target = target(&arguments.path)?;
    match &arguments.client {
        Some(name) => by_client(options, arguments, (&method, &target), route, name),
        None => by_role(options, arguments, (&method, &target), (route, resign)),
    }
}

/// A link that the gate verifies.
fn by_client(
    options: &Options,
    arguments: &PresignArguments,
    (method, target): (&str, &[u8]),
    route: &Route,
    name: &str,
) -> Result<String, String> {
    let keyring = clients::keyring(&options.clients).map_err(|errors| errors[0].to_string())?;
    let client = options.clients.iter().find(|options| options.client.name == name);
    let client = client.ok_or(format!("there is no [[client]] named {name:?}"))?;
    let access_key = client.client.access_key.as_deref().ok_or(format!("{name:?} has no access-key to sign with"))?;
    let entry = keyring.find(access_key.as_bytes()).ok_or(format!("{name:?} has no secret"))?;
    let stamp = Stamp::at(clock::unix_seconds());
    let scope = Scope::of_s3(&stamp, route.region.as_bytes());
    let key = SigningKey::derive(&entry.secret, scope);
    let signer = Signer { access_key, key: &key, region: route.region.as_bytes(), stamp: &stamp };
    finish(&arguments.route, (method, target), arguments.expires, entry.token(), &signer)
}

/// A link that the storage verifies.
fn by_role(
    options: &Options,
    arguments: &PresignArguments,
    (method, target): (&str, &[u8]),
    (route, resign): (&Route, &ReSign),
) -> Result<String, String> {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => target.split_at(at),
        None => (target, &[][..]),
    };
    let place = route.place(resign, arguments.route.as_bytes(), path).ok_or("the path is in no bucket of the route")?;
    let bucket = place.bucket.ok_or("the path has no bucket")?;
    let mut own = b"/".to_vec();
    if resign.style == Style::Path {
        own.extend_from_slice(bucket.name.as_bytes());
        own.push(b'/');
    }
    own.extend_from_slice(place.key);
    own.extend_from_slice(query);
    let credentials = credentials(options, resign.credential)?;
    let stamp = Stamp::at(clock::unix_seconds());
    let scope = Scope::of_s3(&stamp, route.region.as_bytes());
    let key = SigningKey::derive(&credentials.secret, scope);
    let signer =
        Signer { access_key: &credentials.access_key, key: &key, region: route.region.as_bytes(), stamp: &stamp };
    let token = credentials.token.as_ref().map(|token| token.as_str().as_bytes());
    finish(&bucket.host, (method, &own), arguments.expires, token, &signer)
}

fn credentials(options: &Options, index: usize) -> Result<Arc<Credentials>, String> {
    let wanted = options.credentials.get(index).cloned().ok_or("the route has no credential")?;
    let name = wanted.name.clone();
    let (store, slots) = Store::start(vec![wanted]).map_err(|error| error.to_string())?;
    store.wait_first(ROLE_TIME_MAX);
    slots[0].current().ok_or_else(|| {
        let why = store.statuses().now().into_iter().find_map(|status| status.error);
        format!(
            "there are no credentials of {name:?}: {}",
            why.unwrap_or_else(|| "nobody answered in time".to_string())
        )
    })
}

fn finish(
    host: &str,
    (method, target): (&str, &[u8]),
    expires: Duration,
    token: Option<&[u8]>,
    signer: &Signer<'_>,
) -> Result<String, String> {
    let link =
        Composer::default().presign(method.as_bytes(), host.as_bytes(), target, expires.as_secs(), token, signer);
    let link = link.map_err(|_| "the query has too many parameters")?;
    Ok(format!("https://{host}{}", String::from_utf8_lossy(&link)))
}

/// Encodes what may not stand in a path or a query, and leaves what is encoded as it is.
fn target(typed: &str) -> Result<Vec<u8>, String> {
    if !typed.starts_with('/') {
        return Err(format!("{typed:?} does not begin with a slash"));
    }
    let (path, query) = typed.split_once('?').map_or((typed, None), |(path, query)| (path, Some(query)));
    let mut out = Vec::with_capacity(typed.len());
    encode(path.as_bytes(), b"/", &mut out);
    if let Some(query) = query {
        out.push(b'?');
        encode(query.as_bytes(), b"=&", &mut out);
    }
    Ok(out)
}

fn encode(text: &[u8], kept: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let is_escape = *first == b'%' && behind.len() >= 2 && behind[..2].iter().all(u8::is_ascii_hexdigit);
        if is_escape || kept.contains(first) {
            out.push(*first);
        } else {
            escape::encode(&[*first], Slash::Encode, out);
        }
        rest = behind;
    }
}

/// A link is good for seven days at most.
const LINK_TIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long the role's credentials are waited for.
const ROLE_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_stand_in_a_target_is_encoded_once() {
        for (typed, expected) in [
            ("/a/b.mov", "/a/b.mov"),
            ("/shot 010 + comp é.mov", "/shot%20010%20%2B%20comp%20%C3%A9.mov"),
            ("/shot%20010.mov", "/shot%20010.mov"),
            ("/100%.mov", "/100%25.mov"),
            ("/a//b", "/a//b"),
            ("/a?partNumber=1&uploadId=x y", "/a?partNumber=1&uploadId=x%20y"),
        ] {
            assert_eq!(String::from_utf8(target(typed).unwrap()).unwrap(), expected);
        }
        assert!(target("a").is_err() && target("").is_err());
    }
}
