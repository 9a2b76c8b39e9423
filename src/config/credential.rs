//! Credentials: where they come from, and the roles on the way.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::file::{Refused, Section, kind, text};
use super::value;
use crate::creds::{Command, CredentialOptions, Pace, Role, Source, Sts};
use crate::limits;

/// Every `[[credential]]` of the document.
pub(super) fn read(root: &Section<'_>) -> Result<Vec<CredentialOptions>, Refused> {
    let sections = root.sections("credential");
    if sections.len() > limits::CREDENTIALS_MAX {
        let message = format!("{} credentials are more than {}", sections.len(), limits::CREDENTIALS_MAX);
        return Err(root.error("credential", message));
    }
    let mut names: Vec<String> = Vec::new();
    let mut all = Ok(Vec::new());
    for section in &sections {
        let options = credential(section);
        if let Ok(options) = &options {
            if names.contains(&options.name) {
                section.error("name", format!("{:?} is the name of earlier credentials", options.name));
            }
            names.push(options.name.clone());
        }
        match (options, &mut all) {
            (Ok(options), Ok(all)) => all.push(options),
            (Ok(_), Err(_)) => {}
            (Err(refused), all) => *all = Err(refused),
        }
    }
    all
}

fn credential(section: &Section<'_>) -> Result<CredentialOptions, Refused> {
    let name = section.require("name", value::credential_name);
    let source = source(section);
    let region = section.read("region", value::region);
    let sections = section.sections("role");
    if sections.len() > limits::ROLES_MAX {
        section.error("role", format!("a chain of {} roles is longer than {}", sections.len(), limits::ROLES_MAX));
    }
    let roles: Vec<_> = sections.iter().enumerate().map(|(index, section)| role(section, index > 0)).collect();
    let sts = sts(&section.section("sts"), sections.is_empty());
    if region == Ok(None) && !sections.is_empty() {
        section.error("region", "missing; a role is asked for in a region: write for example `region = \"us-west-2\"`");
    }
    Ok(CredentialOptions {
        name: name?,
        source: source?,
        region: region?,
        roles: roles.into_iter().collect::<Result<_, _>>()?,
        sts: sts?,
        pace: Pace::default(),
    })
}

fn source(section: &Section<'_>) -> Result<Source, Refused> {
    let profile = section.read("profile", |value| not_empty(text(value)?));
    let process = section.read("process", |value| not_empty(text(value)?));
    match (profile?, process?) {
        (Some(_), Some(_)) => {
            Err(section.error("process", "write either profile or process; credentials come from one of them"))
        }
        (Some(profile), None) => Ok(Source::Profile(profile)),
        (None, Some(process)) => Ok(Source::Process(Command(process))),
        (None, None) => Ok(Source::Chain),
    }
}

fn role(section: &Section<'_>, is_chained: bool) -> Result<Role, Refused> {
    let arn = section.require("arn", |value| role_arn(text(value)?));
    let external_id = section.read("external-id", |value| word(text(value)?, 2, 1224, "+=,.@:/-_"));
    let session_name = section.read("session-name", |value| word(text(value)?, 2, 64, "+=,.@-_"));
    let duration = section.read("duration", |value| duration(value, is_chained));
    let policy_file = section.read("policy-file", |value| not_empty(text(value)?).map(PathBuf::from));
    let policy_arns = section.list("policy-arns", policy_arn);
    let tags = section.read("tags", tags);
    let transitive = section.list("transitive-tags", |typed| Ok(typed.to_string()));
    let source_identity = section.read("source-identity", |value| word(text(value)?, 2, 64, "+=,.@-_"));
    let (tags, transitive) = (tags?.unwrap_or_default(), transitive?.unwrap_or_default());
    if let Some(entry) = transitive.iter().find(|entry| tags.iter().all(|(key, _)| *key != entry.value)) {
        section.report().error(&entry.place, format!("{:?} is none of this role's tags", entry.value));
    }
    let policy_arns = policy_arns?.unwrap_or_default();
    if policy_arns.len() > POLICY_ARNS_MAX {
        section.error("policy-arns", format!("{} are more than {POLICY_ARNS_MAX}", policy_arns.len()));
    }
    Ok(Role {
        arn: arn?,
        external_id: external_id?,
        session_name: session_name?.unwrap_or_default(),
        duration: duration?.unwrap_or(DURATION_CHAINED_MAX),
        policy_file: policy_file?,
        policy_arns: policy_arns.into_iter().map(|entry| entry.value).collect(),
        tags,
        transitive_tags: transitive.into_iter().map(|entry| entry.value).collect(),
        source_identity: source_identity?,
    })
}

fn sts(section: &Section<'_>, is_useless: bool) -> Result<Sts, Refused> {
    let endpoint = section.read("endpoint", |value| endpoint(text(value)?));
    let ca_file = section.read("ca-file", |value| text(value).map(str::to_string));
    let (endpoint, ca_file) = (endpoint?, ca_file?.filter(|file| !file.is_empty()).map(PathBuf::from));
    if section.is_present() && is_useless {
        section.warning("endpoint", "there is no role, so STS is not asked");
    }
    if ca_file.is_some() && endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
        section.warning("ca-file", "it has no effect on a plain http:// endpoint");
    }
    Ok(Sts { endpoint, ca_file })
}

/// A URL without a path. Plain HTTP does not leave the machine: keys come back over it.
fn endpoint(typed: &str) -> Result<String, String> {
    if !typed.contains("://") {
        return Err(format!("{typed:?}: write the scheme too, \"https://{typed}\""));
    }
    let address = value::address(typed)?;
    if address.plain && !is_loopback(&address.host) {
        return Err(format!("{typed:?}: credentials come back from STS, so it must be https:// (or 127.0.0.1)"));
    }
    let scheme = if address.plain { "http" } else { "https" };
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host };
    let usual = if address.plain { 80 } else { 443 };
    Ok(if address.port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{}", address.port) })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn not_empty(typed: &str) -> Result<String, String> {
    if typed.trim().is_empty() {
        Err("empty; remove the line if it is not meant".to_string())
    } else {
        Ok(typed.into())
    }
}

/// What STS takes in most of its parameters: letters, digits and a few signs, `min` to `max` of them.
fn word(typed: &str, min: usize, max: usize, signs: &str) -> Result<String, String> {
    if !(min..=max).contains(&typed.len()) {
        return Err(format!("it must have {min} to {max} characters"));
    }
    match typed.chars().find(|letter| !letter.is_ascii_alphanumeric() && !signs.contains(*letter)) {
        Some(odd) => Err(format!("{odd:?} is not allowed; letters, digits and {signs} are")),
        None => Ok(typed.to_string()),
    }
}

fn role_arn(typed: &str) -> Result<String, String> {
    let name = iam_name(typed, "role/");
    name.ok_or_else(|| format!("{typed:?} is no role; write it like \"arn:aws:iam::123456789012:role/FilmgateMedia\""))
}

fn policy_arn(typed: &str) -> Result<String, String> {
    let name = iam_name(typed, "policy/");
    name.ok_or_else(|| format!("{typed:?} is no policy; write it like \"arn:aws:iam::123456789012:policy/Media\""))
}

/// `arn:PARTITION:iam::ACCOUNT:` and `kind` with a name, where AWS's own policies have the account `aws`.
fn iam_name(typed: &str, kind: &str) -> Option<String> {
    let parts: Vec<&str> = typed.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return None };
    let has_account = (account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
        || (kind == "policy/" && *account == "aws");
    let name = resource.strip_prefix(kind)?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    (partition.starts_with("aws") && has_account && is_name && typed.len() <= 2048).then(|| typed.to_string())
}

fn duration(value: &DeValue<'_>, is_chained: bool) -> Result<Duration, String> {
    let time = value::time(value, false)?;
    let max = if is_chained { DURATION_CHAINED_MAX } else { DURATION_MAX };
    if time < DURATION_MIN || time.subsec_nanos() != 0 {
        return Err("STS gives credentials for at least 15m, and for whole seconds".to_string());
    }
    if time > max && is_chained {
        return Err("behind another role STS gives credentials for at most 1h".to_string());
    }
    if time > max {
        return Err("STS gives credentials for at most 12h".to_string());
    }
    Ok(time)
}

fn tags(value: &DeValue<'_>) -> Result<Vec<(String, String)>, String> {
    let Some(table) = value.as_table() else {
        return Err(format!("expected tags such as {{ project = \"feature\" }}, found {}", kind(value)));
    };
    if table.len() > TAGS_MAX {
        return Err(format!("{} tags are more than {TAGS_MAX}", table.len()));
    }
    let tag = |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        let key = key.get_ref();
        let value = text(value.get_ref()).map_err(|message| format!("{key}: {message}"))?;
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(format!("{key:?}: a key has 1 to 128 characters, a value up to 256"));
        }
        Ok((key.to_string(), value.to_string()))
    };
    table.iter().map(tag).collect()
}

/// STS API, `AssumeRole`: DurationSeconds.
const DURATION_MIN: Duration = Duration::from_secs(15 * 60);

/// The longest that a role can allow.
const DURATION_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// IAM user guide, "Role chaining".
const DURATION_CHAINED_MAX: Duration = Duration::from_secs(60 * 60);

/// STS API, `AssumeRole`: PolicyArns.
const POLICY_ARNS_MAX: usize = 10;

/// STS API, `AssumeRole`: Tags.
const TAGS_MAX: usize = 50;
