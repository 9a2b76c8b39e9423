//! Whose credentials the gate signs with, and how they are kept fresh.
//!
//! `source` finds the first credentials, `assume` turns them into those of a role, one role after the other, and
//! [`store`] does both again in time, on a thread of its own, and leaves the outcome where shards read it.
//!
//! This is the only place that talks to AWS through its SDK. What the SDK has to say for itself is not logged at any
//! level, because it may hold secrets; what went wrong is said by [`store`], in the words of `failure`.

mod assume;
mod failure;
mod keeper;
mod source;
pub mod store;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One named set of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialOptions {
    /// What routes and logs call it.
    pub name: String,
    /// Where the first credentials come from.
    pub source: Source,
    /// The region of STS, and of what the source asks. Needed where there is a role.
    pub region: Option<String>,
    /// Roles to take on, one with the credentials of the one before.
    pub roles: Vec<Role>,
    /// How STS is reached for these roles.
    pub sts: Sts,
    /// When to renew, and how patiently.
    pub pace: Pace,
}

/// Where the first credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Where the AWS SDKs look: the environment, the default profile (with SSO), a web identity, the container's
    /// endpoint (ECS, EKS), the instance's metadata (IMDSv2).
    Chain,
    /// A profile of the AWS configuration files, and nothing else.
    Profile(String),
    /// What a command prints (AWS SDKs and tools reference, "Process credential provider").
    Process(Command),
}

/// A command line for `sh -c`. Its arguments may be secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(pub String);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command(..)")
    }
}

/// A role to take on (STS API, `AssumeRole`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name, `arn:aws:iam::123456789012:role/Name`.
    pub arn: String,
    /// What its owner gave us to say.
    pub external_id: Option<String>,
    /// What the session is called in its owner's logs.
    pub session_name: String,
    /// How long credentials are to be valid.
    pub duration: Duration,
    /// A session policy: JSON, which narrows what the role may do.
    pub policy_file: Option<PathBuf>,
    /// Managed policies that do the same.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Keys of tags that the next role of the chain is given as well.
    pub transitive_tags: Vec<String>,
    /// Who is behind the session.
    pub source_identity: Option<String>,
}

/// How STS is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sts {
    /// Such as `https://vpce-1.sts.us-west-2.vpce.amazonaws.com`; `None` for the regional endpoint.
    pub endpoint: Option<String>,
    /// PEM roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// A session policy, without looking at what it says.
///
/// # Errors
/// When the file cannot be read, is not JSON, or is longer than STS takes.
pub fn session_policy(file: &Path) -> Result<String, String> {
    assume::policy(file)
}

/// Whether the roots that `sts` names can be trusted.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn sts_roots(sts: &Sts) -> Result<(), String> {
    assume::trusted(sts).map(drop)
}

/// When to renew, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long one attempt may take in all: the source and every role.
    pub attempt: Duration,
    /// The first wait after an attempt that failed. Later waits double.
    pub retry_min: Duration,
    /// The longest wait between attempts.
    pub retry_max: Duration,
    /// How often credentials that do not expire are looked at again: somebody may have replaced them.
    pub recheck: Duration,
    /// Between two renewals because S3 refuses what it is given. Doubles while S3 refuses those as well.
    pub doubt: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(45),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            recheck: Duration::from_secs(15 * 60),
            doubt: Duration::from_secs(30),
        }
    }
}

/// How credentials are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Asked for the first time, and not there yet.
    #[default]
    Awaited,
    /// There, and good for all that is known.
    Valid,
    /// There and valid, but they cannot be renewed.
    Failing,
    /// There, but S3 refuses what is signed with them, or some of it, although they were renewed because of that.
    Refused,
    /// Not there: expired, or never got.
    Missing,
}

impl State {
    /// In one word, for people and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Valid => "valid",
            Self::Failing => "failing",
            Self::Refused => "refused",
            Self::Missing => "missing",
        }
    }
}

/// What is known of one set of credentials. Nothing in it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What routes and logs call it.
    pub name: String,
    /// How they are.
    pub state: State,
    /// When they expire, in seconds since 1970; `None` for never, or while there are none.
    pub expires: Option<u64>,
    /// Which ones they are; 0 before the first.
    pub generation: u64,
    /// Attempts that brought credentials.
    pub refreshes: u64,
    /// Attempts that brought none.
    pub failures: u64,
    /// Generations that S3 refused.
    pub doubts: u64,
    /// What went wrong the last time, if nothing has gone right since.
    pub error: Option<String>,
}

/// Why credentials cannot even be asked for.
#[derive(Debug)]
pub struct StartError {
    /// Whose: the name of the credential, empty for all.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return write!(f, "credentials: {}", self.what);
        }
        write!(f, "credential {:?}: {}", self.name, self.what)
    }
}

impl std::error::Error for StartError {}
