//! Which of the two modes a command means: a directory, or servers.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::{
    cli::{ConfigArgs, Source},
    config::Config,
};

const DATA: &str = "KILTER_DATA";
const CONFIG: &str = "KILTER_CONFIG";

/// The directory if nothing says otherwise.
const DEFAULT: &str = "kilter-data";

/// Where the data is.
#[derive(Debug)]
pub enum Place {
    /// The embedded mode's directory.
    Directory(PathBuf),
    /// The servers of these settings.
    Servers(Box<Config>),
}

impl Source {
    /// What the command line says, else the environment, else the directory of the default name.
    ///
    /// # Errors
    ///
    /// When the environment says both, or the settings are wrong.
    pub fn place(&self) -> anyhow::Result<Place> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let (data, config) = (var(DATA), var(CONFIG));
        if let Some(data) = &self.data {
            return Ok(Place::Directory(data.clone()));
        }
        if self.config.is_some() || !self.set.is_empty() {
            let file = self.config.clone().or(config.map(PathBuf::from));
            return self.servers(file.as_deref());
        }
        match (data, config) {
            (Some(data), Some(config)) => bail!(
                "{DATA} ({}) and {CONFIG} ({}) are both set: say which is meant, with --data or \
                 --config",
                data.display(),
                config.display()
            ),
            (None, Some(config)) => self.servers(Some(Path::new(&config))),
            (Some(data), None) => Ok(Place::Directory(data.into())),
            (None, None) => Ok(Place::Directory(DEFAULT.into())),
        }
    }

    fn servers(&self, file: Option<&Path>) -> anyhow::Result<Place> {
        let config = Config::from_args(&ConfigArgs {
            config: file.map(Path::to_owned),
            set: self.set.clone(),
        })?;
        Ok(Place::Servers(Box::new(config)))
    }
}
