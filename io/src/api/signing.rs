//! Which requests have to be signed.

use std::{net::SocketAddr, sync::Arc};

use super::{Problem, Signed, Verifier};

/// Which requests have to be signed.
#[derive(Clone, Debug)]
pub enum Signing {
    /// None. For a laptop: refused on an address that others can reach.
    Off,
    /// Those that change something.
    Changes(Arc<Verifier>),
    /// Every one but health and reflection.
    Everything(Arc<Verifier>),
}

/// Unsigned requests were asked for on an address that others can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsigned requests are taken on a loopback address only, and {address} is none")]
pub struct UnsignedError {
    /// The address.
    pub address: SocketAddr,
}

impl Signing {
    /// Whether requests may come in by this address.
    ///
    /// # Errors
    ///
    /// When nothing needs to be signed and the address is no loopback address.
    pub fn check(&self, address: SocketAddr) -> Result<(), UnsignedError> {
        match self {
            Self::Off if !address.ip().to_canonical().is_loopback() => {
                Err(UnsignedError { address })
            }
            _ => Ok(()),
        }
    }

    /// Whether a change has to be signed.
    pub(crate) const fn signs_changes(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Checks a request's signature, if it needs one.
    pub(crate) fn admit(
        &self,
        changes: bool,
        signed: Signed<'_>,
        body: &[u8],
        now_ms: i64,
    ) -> Result<(), Problem> {
        let verifier = match self {
            Self::Off => return Ok(()),
            Self::Changes(_) if !changes => return Ok(()),
            Self::Changes(verifier) | Self::Everything(verifier) => verifier,
        };
        verifier.verify(signed, body, now_ms).map_err(Problem::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Keys};

    #[test]
    fn unsigned_on_loopback_only() {
        let key = Key::new("k", b"f2a9c1d47be0835516aa90cc31fe07bd").unwrap();
        let verifier = Arc::new(Verifier::new(Keys::new(vec![key]).unwrap()));
        for (address, unsigned) in [
            ("127.0.0.1:3000", true),
            ("127.9.9.9:3000", true),
            ("[::1]:3000", true),
            ("[::ffff:127.0.0.1]:3000", true),
            ("0.0.0.0:3000", false),
            ("[::]:3000", false),
            ("10.0.0.1:3000", false),
            ("[::ffff:10.0.0.1]:3000", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(Signing::Off.check(address).is_ok(), unsigned, "{address}");
            let changes = Signing::Changes(Arc::clone(&verifier));
            assert_eq!(changes.check(address), Ok(()));
        }
    }

    #[test]
    fn reads_need_no_signature_unless_everything_does() {
        let key = Key::new("k", b"f2a9c1d47be0835516aa90cc31fe07bd").unwrap();
        let verifier = Arc::new(Verifier::new(Keys::new(vec![key]).unwrap()));
        let admits =
            |signing: &Signing, changes| signing.admit(changes, Signed::default(), b"", 0).is_ok();
        let changes = Signing::Changes(Arc::clone(&verifier));
        assert_eq!(
            (admits(&changes, true), admits(&changes, false)),
            (false, true)
        );
        let all = Signing::Everything(verifier);
        assert_eq!((admits(&all, true), admits(&all, false)), (false, false));
        assert_eq!(
            (admits(&Signing::Off, true), admits(&Signing::Off, false)),
            (true, true)
        );
    }
}
