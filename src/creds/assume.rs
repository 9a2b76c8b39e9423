//! From the first credentials to those of a role, by STS.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_sdk_sts::config::{Region, RuntimeComponents, SharedHttpClient};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use aws_sdk_sts::{Client, Config};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use super::failure::Failure;
use super::{CredentialOptions, Role, Source, StartError, Sts, source};
use crate::tls::config::{self, ClientOptions, Records, Version};

/// How long one request to STS may take.
const REQUEST: Duration = Duration::from_secs(15);

/// How long STS may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(4);

/// Bytes of a session policy that are read. STS takes 2048 characters.
const POLICY_BYTES_MAX: u64 = 64 * 1024;

/// The whole way to one set of credentials.
pub(super) struct Way {
    source: Source,
    region: Option<Region>,
    endpoint: Option<String>,
    roles: Vec<(Role, Option<String>)>,
    source_http: SharedHttpClient,
    sts_http: SharedHttpClient,
}

impl Way {
    /// Reads the files that `options` name.
    pub(super) fn new(options: &CredentialOptions) -> Result<Self, StartError> {
        let refused = |what| StartError { name: options.name.clone(), what };
        if options.region.is_none() && !options.roles.is_empty() {
            return Err(refused("a role needs the region of STS".to_owned()));
        }
        let roles = options.roles.iter().map(|role| {
            let policy = role.policy_file.as_deref().map(policy).transpose()?;
            Ok((role.clone(), policy))
        });
        Ok(Self {
            source: options.source.clone(),
            region: options.region.clone().map(Region::new),
            endpoint: options.sts.endpoint.clone(),
            roles: roles.collect::<Result<_, _>>().map_err(refused)?,
            source_http: https(TrustStore::default()).map_err(refused)?,
            sts_http: trusted(&options.sts).and_then(https).map_err(refused)?,
        })
    }

    /// Goes it once, from the start.
    pub(super) async fn go(&self) -> Result<Credentials, Failure> {
        let mut credentials = source::fetch(&self.source, self.region.as_ref(), &self.source_http).await?;
        for (role, policy) in &self.roles {
            credentials = self.assume(role, policy.as_deref(), credentials).await?;
        }
        Ok(credentials)
    }

    async fn assume(&self, role: &Role, policy: Option<&str>, with: Credentials) -> Result<Credentials, Failure> {
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(self.region.clone())
            .credentials_provider(with.clone())
            .http_client(self.sts_http.clone())
            // The store tries again, and later than the SDK would.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(REQUEST).build());
        config.set_endpoint_url(self.endpoint.clone());
        let mut request = Client::from_conf(config.build())
            .assume_role()
            .role_arn(&role.arn)
            .role_session_name(&role.session_name)
            .duration_seconds(i32::try_from(role.duration.as_secs()).unwrap_or(i32::MAX))
            .set_external_id(role.external_id.clone())
            .set_source_identity(role.source_identity.clone())
            .set_policy(policy.map(str::to_owned));
        for arn in &role.policy_arns {
            request = request.policy_arns(PolicyDescriptorType::builder().arn(arn).build());
        }
        for (key, value) in &role.tags {
            let tag = Tag::builder().key(key).value(value).build();
            request = request.tags(tag.map_err(|error| Failure::of("a session tag", &error))?);
        }
        for key in &role.transitive_tags {
            request = request.transitive_tag_keys(key);
        }
        let what = format!("STS does not give the role {}", role.arn);
        let answer = request.send().await.map_err(|error| refusal(&what, error, &with))?;
        let Some(given) = answer.credentials else {
            return Err(Failure::new(format!("{what}: there are no credentials in its answer")));
        };
        let expires = SystemTime::try_from(given.expiration)
            .map_err(|_| Failure::new(format!("{what}: the expiry in its answer is out of range")))?;
        let (secret, token) = (given.secret_access_key, given.session_token);
        Ok(Credentials::new(given.access_key_id, secret, Some(token), Some(expires), "role"))
    }
}

fn refusal<E>(what: &str, error: SdkError<E>, with: &Credentials) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let secrets = [with.secret_access_key(), with.session_token().unwrap_or_default()];
            let status = format!("status {}", answer.raw().status().as_u16());
            let (code, message) = (answer.err().code(), answer.err().message());
            Failure::answered(what, code.unwrap_or(&status), message.unwrap_or("it does not say why"), &secrets)
        }
        SdkError::TimeoutError(_) => Failure::new(format!("{what}: no answer in time")),
        _ => Failure::of(what, &error),
    }
}

/// A session policy, without looking at what it says.
///
/// # Errors
/// When it cannot be read or is not JSON.
pub(super) fn policy(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let found = fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if !found.is_file() {
        return Err(format!("{shown} cannot be read: it is no ordinary file"));
    }
    if found.len() > POLICY_BYTES_MAX {
        return Err(format!("{shown} is larger than 64 KiB; STS takes 2048 characters"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(serde_json::Value::Object(_)) => {}
        Ok(_) => return Err(format!("{shown} is no policy: it is no JSON object")),
        Err(error) => return Err(format!("{shown} is no JSON: {error}")),
    }
    let characters = text.chars().count();
    if characters > POLICY_CHARACTERS_MAX {
        return Err(format!("{shown} has {characters} characters; STS takes {POLICY_CHARACTERS_MAX}"));
    }
    Ok(text)
}

/// STS API, `AssumeRole`.
const POLICY_CHARACTERS_MAX: usize = 2048;

/// What the endpoint's certificate may come from. The SDK panics at a certificate it cannot read, so this looks first.
pub(super) fn trusted(sts: &Sts) -> Result<TrustStore, String> {
    let Some(path) = &sts.ca_file else {
        // Nothing over TLS is asked there, and a machine without roots is no reason to fail.
        let plain = sts.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        return Ok(TrustStore::empty().with_native_roots(!plain));
    };
    let (server_name, max_version, records) = ("sts.invalid".to_owned(), Version::Tls13, Records::default());
    let readable = ClientOptions { server_name, ca_file: Some(path.clone()), max_version, records };
    config::client(&readable).map_err(|error| error.to_string())?;
    let pem = config::read(path).map_err(|error| error.to_string())?;
    Ok(TrustStore::empty().with_pem_certificate(pem.to_vec()))
}

fn https(trusted: TrustStore) -> Result<SharedHttpClient, String> {
    let context = TlsContext::builder().with_trust_store(trusted).build().map_err(|error| error.to_string())?;
    let proxy = proxy()?;
    let connector = move |settings: Option<&_>, components: Option<&RuntimeComponents>| {
        let mut builder = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone())
            .proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    };
    Ok(aws_smithy_http_client::Builder::new().build_with_connector_fn(connector))
}

/// The proxy that the environment names for HTTPS. What is asked over plain HTTP, the metadata of an instance or a
/// container, is near by and never asked through one.
fn proxy() -> Result<ProxyConfig, String> {
    let set = |names: [&str; 2]| names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    let Some(url) = set(["HTTPS_PROXY", "https_proxy"]) else { return Ok(ProxyConfig::disabled()) };
    // The URL may hold a password, so it is not repeated.
    let config = ProxyConfig::https(url).map_err(|_| "HTTPS_PROXY is no URL of a proxy".to_owned())?;
    Ok(config.no_proxy(set(["NO_PROXY", "no_proxy"]).unwrap_or_default()))
}
