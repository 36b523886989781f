//! Opens a bucket of S3, or of what speaks its protocol.

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

/// Asks nothing yet.
pub(super) fn open(bucket: &BucketConfig) -> Result<Arc<dyn ObjectStore>, String> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRIES_END, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::from_env()
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
