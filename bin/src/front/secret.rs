//! The secret of a directory: clients on the same machine sign with it, and nobody has to make one.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// The file's name in the directory.
const NAME: &str = "api.secret";

/// How many random bytes it is made of; the text has twice as many digits.
const BYTES: usize = 32;

/// Where a directory's secret is kept.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Makes the secret of a directory, unless it has one. Only the owner of the file may read it.
///
/// # Errors
///
/// When it cannot be written.
pub fn make(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = path(dir);
    // Written whole under another name: a crash leaves no half of a secret.
    let draft = dir.join(format!("{NAME}.new"));
    if path.exists() {
        return Ok(path);
    }
    let write = || -> std::io::Result<()> {
        let mut random = [0; BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text = kilter_io::hex::hex(&random);
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().with_context(|| format!("cannot write the secret {}", path.display()))?;
    Ok(path)
}

/// Refuses a file that others may read.
///
/// # Errors
///
/// When it is readable by more than its owner and group, or not there.
pub fn check(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let found = std::fs::metadata(path)
        .with_context(|| format!("cannot read the secret {}", path.display()))?;
    let mode = found.permissions().mode();
    if mode & 0o007 != 0 {
        bail!(
            "the secret {} may be read by everybody (mode {:o}); chmod 600 mends that",
            path.display(),
            mode & 0o777
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = make(dir.path()).unwrap();
        let secret = std::fs::read_to_string(&path).unwrap();
        assert_eq!(secret.trim_end().len(), 2 * BYTES);
        check(&path).unwrap();
        assert_eq!(make(dir.path()).unwrap(), path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), secret);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = check(&path).unwrap_err().to_string();
        assert!(
            error.contains("everybody") && error.contains("644"),
            "{error}"
        );
    }
}
