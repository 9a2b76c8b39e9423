//! A route with an identity of its own, and what a browser sends to it: a link of a client that the gate knows.

use std::sync::Arc;

use filmgate::clock;
use filmgate::policy::identity::{Client, ClientId, Clients};
use filmgate::policy::route::{Bucket, Mode, ReSign, RouteTable, Style};
use filmgate::policy::rules::{Rule, Rules, Who};
use filmgate::proxy::identity::Known;
use filmgate::s3::operation::Operations;
use filmgate::sign::credentials::{Credentials, Slot, Token};
use filmgate::sign::key::{Scope, Secret, SigningKey};
use filmgate::sign::keyring::{Entry, Keyring};
use filmgate::sign::request::{Composer, Signer};
use filmgate::sign::time::Stamp;

use super::samples::{self, HOST};

const ACCESS_KEY: &str = "FGBENCHCLIENT0000001";
const SECRET: &str = "bench-client-secret-that-guards-nothing";
const PATH: &str = "/0a1b2c3d/4e5f6a7b/Version/112358/sq010_sh0420_comp_v017.mov";

/// Who may use the route, and what the gate signs with.
pub(crate) fn known() -> Known {
    let client = Client { name: "farm".into(), access_key: Some(ACCESS_KEY.into()), ..Client::default() };
    let entry = Entry::new("farm".into(), ClientId(0), Secret::new(SECRET.into()), None);
    let slot = Slot::default();
    slot.set(Credentials {
        access_key: "ASIAEXAMPLEEXAMPLE00".into(),
        secret: Secret::new("secret-of-the-gate-that-guards-nothing".into()),
        token: Some(Token::new("IQoJb3JpZ2luX2VjEJr//////wEaCXVzLXdlc3QtMiJHMEUCIQD4".repeat(8))),
        expires: None,
        generation: 1,
    });
    Known {
        clients: Arc::new(Clients::new(vec![client])),
        keyring: Arc::new(Keyring::new(vec![(ACCESS_KEY.into(), entry)])),
        credentials: vec![Arc::new(slot)],
    }
}

/// The one route, for clients that may read.
pub(crate) fn routes() -> RouteTable {
    let mut route = samples::routes(1).routes()[0].clone();
    let operations = ["GetObject", "HeadObject"].into_iter().filter_map(Operations::one);
    let operations = operations.fold(Operations::NONE, Operations::and);
    let reads = Rule {
        who: Who::Named(vec![ClientId(0)]),
        operations,
        named: operations,
        prefixes: vec![Vec::new()],
        features: None,
    };
    let name = route.bucket.clone();
    let host = format!("{name}.s3.us-west-2.amazonaws.com");
    route.mode = Mode::ReSign(Box::new(ReSign {
        credential: 0,
        buckets: vec![Bucket { name, host }],
        is_endpoint: true,
        style: Style::Virtual,
        service_host: None,
        rules: Rules::new(vec![reads], Vec::new()),
        verify_payload: false,
    }));
    RouteTable::new(vec![route])
}

/// A browser's request for media, by a link that is good for an hour from now.
pub(crate) fn request_head() -> Vec<u8> {
    let stamp = Stamp::at(clock::unix_seconds());
    let scope = Scope::of_s3(&stamp, b"us-west-2");
    let key = SigningKey::derive(&Secret::new(SECRET.into()), scope);
    let signer = Signer { access_key: ACCESS_KEY, key: &key, region: b"us-west-2", stamp: &stamp };
    let bucket = &samples::routes(1).routes()[0].bucket.clone();
    let target = format!("/{bucket}{PATH}?response-content-disposition=filename%3D%22sq010_sh0420_comp_v017.mov%22");
    let link = Composer::default().presign(b"GET", HOST.as_bytes(), target.as_bytes(), 3600, None, &signer);
    let mut head = [b"GET ", &link.expect("a link")[..]].concat();
    let plain = samples::request_head();
    let rest = plain.windows(9).position(|nine| nine == b" HTTP/1.1").expect("a version");
    head.extend_from_slice(&plain[rest..]);
    head
}
