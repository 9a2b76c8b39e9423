//! `SimDial`: connections from the gate to the model of S3.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use filmgate::clock::Deadline;
use filmgate::link::{Dial, DialError};

use crate::faults::Table;
use crate::link::{SimLink, World, pair};
use crate::model::Model;
use crate::rng::Rng;

/// Opens links to the model, or fails to.
pub struct SimDial {
    world: Rc<World>,
    model: Rc<Model>,
    table: Table,
    sealed: bool,
    rng: Rng,
}

impl SimDial {
    pub fn new(world: &Rc<World>, model: &Rc<Model>, table: &Table, sealed: bool, rng: Rng) -> Self {
        Self { world: Rc::clone(world), model: Rc::clone(model), table: table.clone(), sealed, rng }
    }

    async fn wait(&self, wait: Duration, until: Deadline) -> Result<(), DialError> {
        let connected = tokio::time::Instant::now() + wait;
        match until.instant() {
            Some(at) if at < connected => {
                tokio::time::sleep_until(at).await;
                Err(DialError::TimedOut)
            }
            _ => {
                tokio::time::sleep_until(connected).await;
                Ok(())
            }
        }
    }
}

impl Dial for SimDial {
    type Link = SimLink;

    async fn dial(&self, _upstream: usize, until: Deadline) -> Result<SimLink, DialError> {
        let (rng, table) = (&self.rng, &self.table);
        if rng.chance(table.unresolved) {
            return Err(DialError::Unresolved("no such host".to_owned()));
        }
        if rng.chance(table.connect_refused) {
            return Err(DialError::Unreachable(io::ErrorKind::ConnectionRefused.into(), 1));
        }
        if rng.chance(table.connect_lost) {
            self.wait(Duration::from_secs(130), until).await?;
            return Err(DialError::Unreachable(io::ErrorKind::TimedOut.into(), 1));
        }
        if rng.chance(table.connect_slow) {
            // A calm world answers before any sensible connect timeout.
            let slowest = if table.calm { 1_000 } else { 8_000 };
            self.wait(Duration::from_millis(rng.below(slowest)), until).await?;
        }
        let faults = table.link(rng, table.upstream_cuts);
        let faults = if self.sealed { faults.for_tls() } else { faults };
        let (near, far) = pair(&self.world, "upstream", faults, rng);
        tokio::task::spawn_local(Rc::clone(&self.model).serve(far, rng.fork()));
        Ok(near)
    }
}
