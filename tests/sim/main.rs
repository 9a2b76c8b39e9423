//! The line in a simulated world: seeded faults, a model of S3, a virtual clock.
//!
//! `SIM_SEEDS=20000 cargo test --test sim` tries more worlds, `SIM_SEED=7 cargo test --test sim` one of them again, and with
//! `SIM_TRACE=1` says what happens in it.

#![allow(missing_docs, unreachable_pub, reason = "one test crate, no users")]
#![allow(clippy::disallowed_methods, reason = "a simulated world reads its own virtual clock")]

mod checks;
mod client;
mod dial;
mod faults;
mod gate;
mod link;
mod link_rules;
mod model;
mod pki;
mod plan;
mod relay;
mod rng;
mod wire;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use filmgate::access::AccessRecord;
use filmgate::tls::config::Version;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::client::Outcome;
use crate::dial::SimDial;
use crate::faults::Table;
use crate::gate::Gate;
use crate::link::{SimLink, World, pair};
use crate::model::Model;
use crate::pki::Tls;
use crate::plan::{Session, Skill};
use crate::relay::{Mistake, Relay};
use crate::rng::Rng;

/// The code under test.
trait Line: 'static {
    /// Serves one client connection to its end.
    fn serve(self: Rc<Self>, client: SimLink) -> impl Future<Output = ()>;

    /// The access records it wrote, if it writes any.
    fn records(&self) -> Option<Vec<AccessRecord>> {
        None
    }
}

/// Everything one seed decides.
struct Seed {
    world: Rc<World>,
    table: Table,
    model: Rc<Model>,
    tls: Tls,
    sessions: Vec<Session>,
    rng: Rng,
}

impl Seed {
    fn draw(seed: u64, skill: Skill) -> Self {
        let rng = Rng::new(seed);
        let mut table = Table::draw(&rng);
        if skill == Skill::Bytes {
            table.speak_plainly();
        }
        let mut next_id = 0;
        let sessions: Vec<_> =
            (0..rng.between(1, 3)).map(|_| Session::draw(&rng, &table, skill, &mut next_id)).collect();
        let world = World::new(seed);
        let planned: Vec<_> = sessions.iter().flat_map(|session| session.requests.iter().cloned()).collect();
        let tls = match skill {
            Skill::Bytes => Tls { client: None, upstream: None },
            Skill::Http => Tls { client: draw_version(&rng), upstream: draw_version(&rng) },
        };
        let model = Model::new(&world, &table, skill, tls.upstream, &planned, &rng);
        Self { world, table, model, tls, sessions, rng }
    }

    fn dial(&self) -> SimDial {
        SimDial::new(&self.world, &self.model, &self.table, self.tls.upstream.is_some(), self.rng.fork())
    }
}

/// Runs the sessions of one seed through a line and returns what went against the rules.
fn run<L: Line>(number: u64, skill: Skill, line: impl FnOnce(&Seed) -> Rc<L>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = LocalSet::new();
    let seed = Seed::draw_in(&runtime, number, skill);
    let world = Rc::clone(&seed.world);
    local.block_on(&runtime, async {
        if timeout(LIFETIME, play(seed, skill, line)).await.is_err() {
            world.violation("the world did not come to rest".to_owned());
        }
        world.over.set(true);
    });
    drop(local);
    world.violations.take()
}

async fn play<L: Line>(seed: Seed, skill: Skill, line: impl FnOnce(&Seed) -> Rc<L>) {
    let seed = Rc::new(seed);
    let line = line(&seed);
    seed.world.trace(|| format!("{:?}\n{:?}\n{:?}", seed.table, seed.tls, seed.sessions));
    let outcomes: Rc<RefCell<Vec<Outcome>>> = Rc::default();
    let mut clients = Vec::new();
    let mut serving = Vec::new();
    for n in 0..seed.sessions.len() {
        let rng = seed.rng.fork();
        let mut faults = seed.table.link(&rng, seed.table.client_cuts);
        if seed.tls.client.is_some() {
            faults = faults.for_tls();
        }
        if seed.sessions[n].stubborn {
            // A kernel takes in a short answer even while its program does not read.
            faults.outward.window_bytes = faults.outward.window_bytes.max(64 * 1024);
        }
        let (near, far) = pair(&seed.world, "client", faults, &rng);
        serving.push(tokio::task::spawn_local(Rc::clone(&line).serve(near)));
        let (seed, all) = (Rc::clone(&seed), Rc::clone(&outcomes));
        clients.push(tokio::task::spawn_local(async move {
            let session = &seed.sessions[n];
            let outcomes = client::run(far, seed.tls.client, session, &seed.table, rng).await;
            checks::session(&seed.world, &seed.model, session, &outcomes, seed.table.calm);
            if skill == Skill::Http && seed.table.calm {
                checks::connections(&seed.world, &seed.model, session, &outcomes);
            }
            all.borrow_mut().extend(outcomes);
        }));
    }
    for client in clients {
        if client.await.is_err() {
            seed.world.violation("a client panicked".to_owned());
        }
    }
    for serving in serving {
        match timeout(REST, serving).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => seed.world.violation("the line panicked".to_owned()),
            Err(_) => seed.world.violation("a connection was not given up".to_owned()),
        }
    }
    tokio::time::sleep(REST).await;
    let open = seed.world.near_open.get();
    if open != 0 {
        seed.world.violation(format!("{open} links are still open"));
    }
    let outcomes = outcomes.take();
    if let Some(records) = line.records() {
        checks::records(&seed.world, &records, &outcomes, &seed.table);
    }
}

impl Seed {
    /// Draws inside the runtime, whose clock the world lives by.
    fn draw_in(runtime: &tokio::runtime::Runtime, seed: u64, skill: Skill) -> Self {
        let _inside = runtime.enter();
        Self::draw(seed, skill)
    }
}

fn draw_version(rng: &Rng) -> Option<Version> {
    rng.chance(250).then(|| if rng.chance(500) { Version::Tls12 } else { Version::Tls13 })
}

/// Runs many seeds and says how to see the first bad one again.
fn run_seeds<L: Line>(test: &str, skill: Skill, line: impl Fn(&Seed) -> Rc<L>) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut bad = Vec::new();
    let first = seeds.start;
    for seed in seeds {
        let violations = run(seed, skill, &line);
        if !violations.is_empty() {
            bad.push((seed, violations));
        }
        if bad.len() == 5 {
            break;
        }
    }
    let text: Vec<String> = bad.iter().map(|(seed, what)| format!("seed {seed}: {}", what.join("\n    "))).collect();
    let again = bad.first().map_or(first, |(seed, _)| *seed);
    assert!(bad.is_empty(), "{}\nagain: SIM_TRACE=1 SIM_SEED={again} cargo test --test sim {test}", text.join("\n"));
}

/// The first seed below `below` in which a relay with `mistake` is caught.
fn caught(mistake: Mistake, below: u64) -> Option<u64> {
    (0..below).find(|seed| !run(*seed, Skill::Bytes, |seed| Relay::new(seed, mistake)).is_empty())
}

#[test]
fn a_relay_of_bytes_keeps_every_rule() {
    run_seeds("a_relay_of_bytes_keeps_every_rule", Skill::Bytes, |seed| Relay::new(seed, Mistake::None));
}

#[test]
fn every_mistake_of_a_relay_is_caught() {
    let unnoticed: Vec<_> = Mistake::ALL.into_iter().filter(|mistake| caught(*mistake, 1_000).is_none()).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?} went unnoticed");
}

#[test]
fn the_line_keeps_every_rule() {
    run_seeds("the_line_keeps_every_rule", Skill::Http, Gate::new);
}

/// Worlds tried by default.
const SEEDS: u64 = 2_000;

/// Virtual time in which a world must be over.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Virtual time after which a line whose clients are gone must have let go of everything.
const REST: Duration = Duration::from_secs(600);
