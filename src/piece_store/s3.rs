//! Opens a bucket of S3, or of what speaks its protocol.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use secrecy::ExposeSecret;

use crate::config::BucketConfig;

/// The archiver tries again by itself, so an outage is soon told.
const RETRIES: usize = 3;
const RETRIES_END: Duration = Duration::from_secs(30);

/// What other programs read, too: `AWS_...`. One that is empty counts as not set, which the crate's own `from_env` does not do.
fn from_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if let (true, Ok(key)) = (name.starts_with("AWS_"), name.to_ascii_lowercase().parse()) {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// Asks nothing yet.
pub(super) fn open(bucket: &BucketConfig) -> Result<Arc<dyn ObjectStore>, String> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRIES_END, ..RetryConfig::default() };
    let mut builder = from_variables(std::env::vars_os())
        .with_bucket_name(&bucket.name)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry);
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let (Some(access_key), Some(secret_key)) = (&bucket.access_key, &bucket.secret_key) {
        builder = builder.with_access_key_id(access_key).with_secret_access_key(secret_key.expose_secret());
    }
    let store = builder.build().map_err(|error| error.to_string())?;
    let prefix = Path::parse(&bucket.prefix).map_err(|error| error.to_string())?;
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;

    use super::*;

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let variables = [
            ("AWS_REGION", ""),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_UNKNOWN", "x"),
            ("HOME", "/"),
        ];
        let builder = from_variables(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(builder.get_config_value(&AmazonS3ConfigKey::Region), None);
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:9"));
    }
}
