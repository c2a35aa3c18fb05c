//! What requests are signed with, from the settings.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use kilter_io::api::{Keys, SecretSource, Signing, Verifier};

use super::secret;
use crate::config::{self, Secret, Signatures};

/// The keys that requests are signed with; `None` when none need to be.
///
/// # Errors
///
/// When there is none, or one that is no secret.
pub fn keys(api: &config::Api) -> anyhow::Result<Option<Keys>> {
    if api.signatures == Signatures::Off {
        return Ok(None);
    }
    let named = [
        (&api.key_id, &api.secret, api.secret_file.as_deref()),
        (
            &api.second_key_id,
            &api.second_secret,
            api.second_secret_file.as_deref(),
        ),
    ];
    let sources: Vec<(String, SecretSource)> = named
        .into_iter()
        .filter_map(|(id, secret, file)| Some((id.clone(), source(secret, file)?)))
        .collect();
    let keys = Keys::load(&sources).context(
        "the front door cannot tell who asks (api.secret or HMAC_SECRET, api.secret_file; \
         START_API=false does without a front door)",
    )?;
    for (_, source) in &sources {
        if let SecretSource::File(path) = source
            && let Err(error) = secret::check(path.as_path())
        {
            tracing::warn!("{error:#}");
        }
    }
    Ok(Some(keys))
}

fn source(secret: &Secret, file: Option<&Path>) -> Option<SecretSource> {
    match file {
        Some(path) => Some(SecretSource::File(path.to_owned())),
        None if secret.is_empty() => None,
        None => Some(SecretSource::Value(secret.expose().to_owned())),
    }
}

/// Which requests must be signed, by these keys; and what keys are replaced in later.
pub fn signing(api: &config::Api, keys: Option<Keys>) -> (Signing, Option<Arc<Verifier>>) {
    match keys {
        None => (Signing::Off, None),
        Some(keys) => {
            let verifier = Arc::new(Verifier::new(keys));
            let signing = match api.signatures {
                Signatures::All => Signing::Everything(Arc::clone(&verifier)),
                _ => Signing::Changes(Arc::clone(&verifier)),
            };
            (signing, Some(verifier))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn of(set: &[&str]) -> Result<bool, String> {
        let set: Vec<String> = set.iter().map(|&one| one.to_owned()).collect();
        let config = Config::load(None, &Environment::default(), &set).unwrap();
        match keys(&config.api) {
            Ok(keys) => Ok(keys.is_some()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn no_front_door_without_a_secret() {
        for (set, says) in [
            (&[][..], "no key"),
            (&["api.secret=short"][..], "5 bytes"),
            (&["api.secret=your-secret-key-here"][..], "example"),
            (&["api.secret_file=/nowhere"][..], "/nowhere"),
        ] {
            let error = of(set).unwrap_err();
            assert!(
                error.contains(says) && error.contains("HMAC_SECRET"),
                "{error}"
            );
        }
        let good = "api.secret=f2a9c1d47be0835516aa90cc31fe07bd";
        assert_eq!(of(&[good]), Ok(true));
        let second = "api.second_secret=f2a9c1d47be0835516aa90cc31fe07be";
        assert_eq!(of(&[good, second]), Ok(true));
        assert_eq!(of(&["api.signatures=off"]), Ok(false));
    }
}
