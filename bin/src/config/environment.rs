//! The variables that settings may come from.

use std::{collections::BTreeMap, ffi::OsString};

/// A variable's value, or that it is not UTF-8.
type Value = Result<String, OsString>;

/// Variables by name. Has no `Debug`: there are passwords among them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Value>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        let all = std::env::vars_os();
        // A name that is not UTF-8 is none of ours.
        let named = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(
            named
                .map(|(name, value)| (name, value.into_string()))
                .collect(),
        )
    }

    /// The value of `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Result<&str, ()>> {
        let value = self.0.get(name)?;
        Some(value.as_deref().map_err(|_| ()))
    }

    /// Names that begin as ours do and are not `known`.
    pub fn unknown<'a>(&'a self, known: &'a [String]) -> impl Iterator<Item = &'a str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(move |name| {
            name.starts_with("KILTER_")
                && !is_elsewhere(name)
                && known.iter().all(|known| known != name)
        })
    }
}

/// Names that are no settings: of the command line, of our tests and scripts, and those that
/// Kubernetes gives to every pod beside a service called `kilter`.
fn is_elsewhere(name: &str) -> bool {
    let rest = name.trim_start_matches("KILTER_");
    [
        "CONFIG",
        "DATA",
        "PORT",
        "ROLE",
        "STACK",
        "TEST",
        "SERVICE_HOST",
        "SERVICE_PORT",
    ]
    .contains(&rest)
        || [
            "PORT_",
            "SERVICE_PORT_",
            "STACK_",
            "SIM_",
            "TEST_",
            "BENCH_",
        ]
        .iter()
        .any(|prefix| rest.starts_with(prefix))
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let all = variables.into_iter();
        Self(
            all.map(|(name, value)| (name.into(), Ok(value.into())))
                .collect(),
        )
    }
}
