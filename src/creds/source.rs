//! The first credentials: where AWS's own tools look, or what a command prints.

use std::process::Stdio;
use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sts::config::{Region, SharedHttpClient};
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::{Command, Source};

/// Bytes that a command may print.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Asks the source anew: files are read, commands run and services asked every time.
pub(super) async fn fetch(
    source: &Source,
    region: Option<&Region>,
    http: &SharedHttpClient,
) -> Result<Credentials, Failure> {
    let config = ProviderConfig::without_region()
        .with_region(region.cloned())
        .with_http_client(http.clone())
        .with_behavior_version(Some(BehaviorVersion::latest()));
    match source {
        Source::Chain => {
            let mut chain = DefaultCredentialsChain::builder().configure(config);
            if let Some(region) = region {
                chain = chain.region(region.clone());
            }
            let found = chain.build().await.provide_credentials().await;
            found.map_err(|error| Failure::of("the SDK's default chain has no credentials", &error))
        }
        Source::Profile(name) => {
            let profile = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(name).build();
            let what = format!("profile {name:?} has no credentials");
            profile.provide_credentials().await.map_err(|error| Failure::of(&what, &error))
        }
        Source::Process(command) => parse(&output(command).await?),
    }
}

/// What a command prints. It is killed, with all that it has started, when nobody waits for it any more.
async fn output(command: &Command) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error| Failure::of("the credential process cannot be run", &error);
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", &command.0])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    // Declared behind the child and so dropped first: until the child is waited for, nobody else gets its number.
    let mut group = Group(child.id());
    // As large as it gets: a buffer that grows leaves copies behind that nobody wipes.
    let mut printed = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES_MAX + 1));
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = stdout.take(OUTPUT_BYTES_MAX as u64 + 1);
        while printed.len() < printed.capacity() && stdout.read_buf(&mut *printed).await.map_err(failed)? > 0 {}
    }
    if printed.len() > OUTPUT_BYTES_MAX {
        return Err(Failure::new("the credential process prints more than 64 KiB"));
    }
    let status = child.wait().await.map_err(failed)?;
    group.0 = None;
    if status.success() {
        return Ok(printed);
    }
    Err(Failure::new(format!(
        "the credential process failed ({status}); run it by hand, as the user the gate runs as, to see why"
    )))
}

/// Processes that a command has started, by the id of its own. They are killed when this is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // The shell can do it without unsafe code, and is there: it runs the command. This takes a millisecond or two.
            let mut kill = std::process::Command::new("sh");
            kill.args(["-c", "kill -s KILL -- -$0", &id.to_string()]).stdin(Stdio::null());
            let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// AWS SDKs and tools reference, "Process credential provider": version 1, keys, and maybe a token and an expiry.
fn parse(printed: &[u8]) -> Result<Credentials, Failure> {
    let wrong = |what: &str| Failure::new(format!("the credential process does not print what it should: {what}"));
    let mut printed: Value = serde_json::from_slice(printed).map_err(|_| wrong("no JSON"))?;
    if printed.get("Version").and_then(Value::as_u64) != Some(1) {
        return Err(wrong("Version is not 1"));
    }
    let mut text = |key: &str| match printed.get_mut(key).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(&format!("{key} is no string"))),
    };
    let secret = text("SecretAccessKey")?.map(Zeroizing::new);
    let token = text("SessionToken")?.filter(|token| !token.is_empty()).map(Zeroizing::new);
    let access_key = text("AccessKeyId")?;
    let expires = match text("Expiration")? {
        None => None,
        Some(time) => {
            let time = DateTime::from_str(&time, DateTimeFormat::DateTimeWithOffset).ok();
            Some(time.and_then(|time| SystemTime::try_from(time).ok()).ok_or_else(|| wrong("Expiration is no time"))?)
        }
    };
    let (Some(access_key), Some(mut secret)) = (access_key, secret) else {
        return Err(wrong("AccessKeyId or SecretAccessKey is missing"));
    };
    let token = token.map(|mut token| std::mem::take(&mut *token));
    Ok(Credentials::new(access_key, std::mem::take(&mut *secret), token, expires, "process"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_a_process_prints_is_read() {
        let full = parse(
            br#"{"Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "wJalr", "SessionToken": "AQoD",
                "Expiration": "2013-05-24T02:00:00+02:00", "Other": []}"#,
        )
        .unwrap();
        assert_eq!((full.access_key_id(), full.secret_access_key()), ("ASIA1", "wJalr"));
        assert_eq!(full.session_token(), Some("AQoD"));
        assert_eq!(full.expiry(), Some(UNIX_EPOCH + Duration::from_secs(1_369_353_600)));
        let short = parse(br#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"k","SessionToken":null}"#).unwrap();
        assert_eq!((short.session_token(), short.expiry()), (None, None));
        let empty = parse(br#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"k","SessionToken":""}"#).unwrap();
        assert_eq!(empty.session_token(), None, "a program's way to say that there is none");
    }

    #[test]
    fn what_a_process_prints_wrongly_is_refused_without_repeating_it() {
        for (printed, what) in [
            ("", "no JSON"),
            ("wJalr", "no JSON"),
            (r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":"wJalr"} x"#, "no JSON"),
            (r#"{"AccessKeyId":"a","SecretAccessKey":"wJalr"}"#, "Version"),
            (r#"{"Version":2,"AccessKeyId":"a","SecretAccessKey":"wJalr"}"#, "Version"),
            (r#"{"Version":1,"SecretAccessKey":"wJalr"}"#, "missing"),
            (r#"{"Version":1,"AccessKeyId":"a"}"#, "missing"),
            (r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":5}"#, "SecretAccessKey is no string"),
            (r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":"wJalr","Expiration":"soon"}"#, "Expiration"),
            (r#"[1]"#, "Version"),
        ] {
            let failure = parse(printed.as_bytes()).unwrap_err().to_string();
            assert!(failure.contains(what) && !failure.contains("wJalr"), "{printed}: {failure}");
        }
    }
}
