//! Checks that several sections share.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::config::document::Places;
use crate::config::error::ConfigError;

/// The number, or the default if it is missing; an error if it is out of range or too large for the type.
pub(super) fn number<T>(
    places: &Places,
    key: &str,
    value: Option<u64>,
    default: T,
    range: RangeInclusive<u64>,
) -> Result<T, ConfigError>
where
    T: TryFrom<u64>,
{
    let Some(value) = value else { return Ok(default) };
    T::try_from(value).ok().filter(|_| range.contains(&value)).ok_or_else(|| {
        let remedy = format!("write a number from {} to {}", range.start(), range.end());
        places.invalid(key, format!("= {value} is out of range"), remedy)
    })
}

/// The secret of the configuration, or of the file that it names; an error if both are set.
pub(super) fn secret(
    places: &Places,
    (key, plain): (&str, Option<SecretString>),
    (file_key, file): (&str, Option<PathBuf>),
) -> Result<Option<SecretString>, ConfigError> {
    let (key, secret) = match (plain, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let problem = format!("contradicts {file_key} ({}): both are set", places.of(file_key));
            return Err(places.invalid(key, problem, "remove one of them"));
        }
        (Some(plain), None) => (key, plain),
        (None, Some(path)) => {
            let path = without_tilde(places, file_key, path)?;
            let text = std::fs::read_to_string(&path)
                .map_err(|source| unreadable(places, file_key, path, source))?;
            (file_key, SecretString::from(text.trim()))
        }
    };
    if secret.expose_secret().is_empty() {
        return Err(places.invalid(key, "gives an empty secret", "write the secret, or remove the key"));
    }
    Ok(Some(secret))
}

/// A file that another room will read. It is read once now, so that a typo shows at the start and with its key.
pub(super) fn readable_file(places: &Places, key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    let path = without_tilde(places, key, path)?;
    match std::fs::read(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(unreadable(places, key, path, source)),
    }
}

/// A shell would have put a home in the place of `~` or `~alice`; here a folder of that name would be meant, or made.
pub(super) fn without_tilde(places: &Places, key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().as_encoded_bytes().starts_with(b"~") {
        let problem = format!("= {:?} begins with ~, which is no folder", path.display().to_string());
        return Err(places.invalid(key, problem, "write the whole path"));
    }
    Ok(path)
}

fn unreadable(places: &Places, key: &str, path: PathBuf, source: std::io::Error) -> ConfigError {
    ConfigError::UnreadableFile { place: places.of(key).to_owned(), key: key.to_owned(), path, source }
}

/// Text that may not be empty.
pub(super) fn filled(
    places: &Places,
    key: &str,
    text: Option<String>,
) -> Result<Option<String>, ConfigError> {
    if text.as_deref().is_some_and(|text| text.trim().is_empty()) {
        return Err(places.invalid(key, "is empty", "write a value, or remove the key"));
    }
    Ok(text)
}

/// Text that must be there.
pub(super) fn required(
    places: &Places,
    key: &str,
    text: Option<String>,
    remedy: &str,
) -> Result<String, ConfigError> {
    filled(places, key, text)?.ok_or_else(|| places.invalid(key, "is missing", remedy))
}
