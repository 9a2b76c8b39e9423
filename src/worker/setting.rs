//! One configuration, made ready for all shards, and the way it comes to a shard that runs.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use tokio::sync::Notify;

use crate::access::AccessSink;
use crate::link::KernelTls;
use crate::net::dial::Dialer;
use crate::net::resolve::Addresses;
use crate::pipe::Splice;
use crate::policy::route::RouteTable;
use crate::proxy::identity::{Identity, Known};
use crate::proxy::shard::{Shard, Terms};
use crate::proxy::upstream::Upstream;
use crate::proxy::{Limits, Timeouts};
use crate::tls::config::{ClientConfig, ServerConfig};

/// What all shards serve by. It never changes; a new configuration is another one.
#[derive(Clone)]
pub struct Setting {
    /// TLS towards clients.
    pub tls: Option<Arc<ServerConfig>>,
    /// A number that changes whenever other authorities vouch for clients' certificates.
    pub authorities: u64,
    /// Which bucket a name stands for.
    pub routes: Arc<RouteTable>,
    /// How each upstream is reached.
    pub upstreams: Vec<Reached>,
    /// Addresses of each upstream.
    pub addresses: Arc<Addresses>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// When bodies go through pipes.
    pub splice: Splice,
    /// What the kernel is asked to do of TLS.
    pub kernel_tls: Option<KernelTls>,
    /// What routes that sign anew do it with, if there are any.
    pub known: Option<Known>,
}

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub struct Reached {
    /// A number of its own. What has the same in another setting is the same upstream, whose connections are still good.
    pub id: u64,
    /// TLS towards it.
    pub tls: Option<ClientConfig>,
}

impl Setting {
    /// The same for shard `number`. `before` is what it serves by up to now, and the upstreams of that setting.
    pub(super) fn terms<S: AccessSink>(
        &self,
        number: usize,
        before: Option<(&Shard<Dialer, S>, &[Reached])>,
    ) -> Terms<Dialer> {
        let (idle_for, idle_max) = (self.timeouts.upstream_idle, self.limits.upstream_idle_max);
        let upstreams = self.upstreams.iter().enumerate().map(|(index, reached)| {
            let known = before.and_then(|(shard, upstreams)| {
                shard.upstreams.get(upstreams.iter().position(|other| other.id == reached.id)?)
            });
            match known {
                Some(upstream) => upstream.moved(index, reached.tls.clone(), idle_for, idle_max),
                None => Upstream::new(index, reached.tls.clone(), idle_for, idle_max),
            }
        });
        let addresses = Arc::clone(&self.addresses);
        Terms {
            tls: self.tls.clone(),
            authorities: self.authorities,
            routes: Arc::clone(&self.routes),
            upstreams: upstreams.collect(),
            dial: match before {
                Some((shard, _)) => shard.dial.turned_to(addresses, self.kernel_tls),
                None => Dialer::new(addresses, number).with_kernel_tls(self.kernel_tls),
            },
            splice: self.splice,
            timeouts: self.timeouts.clone(),
            limits: self.limits.clone(),
            identity: self.known.clone().map(|known| match before.and_then(|(shard, _)| shard.identity.as_deref()) {
                Some(before) => before.succeeded_by(known),
                None => Identity::new(known),
            }),
        }
    }
}

/// Where a shard finds the setting it is to serve by next. Nobody waits for its lock.
#[derive(Default)]
pub struct Mailbox {
    next: Mutex<Option<Letter>>,
    arrived: Notify,
}

/// A setting, and what is dropped once it is in force.
pub(super) struct Letter {
    pub(super) setting: Arc<Setting>,
    pub(super) _taken: Sender<()>,
}

impl Mailbox {
    /// Puts a setting in. One that is still there was never in force. `taken` is dropped when the shard serves by it.
    pub fn post(&self, setting: Arc<Setting>, taken: Sender<()>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Letter { setting, _taken: taken });
        self.arrived.notify_one();
    }

    /// Waits for a setting. To be awaited by one task.
    pub(super) async fn next(&self) -> Letter {
        loop {
            // Whoever holds the lock now notifies when he has let go of it.
            let letter = match self.next.try_lock() {
                Ok(mut next) => next.take(),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
                Err(TryLockError::WouldBlock) => None,
            };
            match letter {
                Some(letter) => return letter,
                None => self.arrived.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::identity::Clients;
    use crate::policy::route::{ReSign, Style};
    use crate::policy::rules::Rules;
    use crate::sign::credentials::Slot;
    use crate::sign::keyring::Keyring;

    #[test]
    fn what_was_learned_of_the_storage_outlives_a_configuration() {
        let known = |credentials: &[&Arc<Slot>]| Known {
            clients: Arc::new(Clients::new(Vec::new())),
            keyring: Arc::new(Keyring::new(Vec::new())),
            credentials: credentials.iter().map(|slot| Arc::clone(slot)).collect(),
        };
        let resign = |credential| ReSign {
            credential,
            buckets: Vec::new(),
            is_endpoint: true,
            style: Style::default(),
            service_host: None,
            rules: Rules::default(),
            verify_payload: false,
        };
        let (stays, goes, new) = (Arc::new(Slot::default()), Arc::new(Slot::default()), Arc::new(Slot::default()));
        let before = Identity::new(known(&[&goes, &stays]));
        before.prove(&resign(0), 7);
        before.prove(&resign(1), 8);
        let after = before.succeeded_by(known(&[&stays, &new]));
        assert!(after.is_proved(&resign(0), 8), "under its new number");
        assert!(!after.is_proved(&resign(1), 7) && !after.is_proved(&resign(1), 8));
    }
}
