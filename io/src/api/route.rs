//! Which paths there are.

/// What a path and method ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Health,
    OpenApi,
    Balance,
    Change,
    Changes,
    Transfer,
    Open,
    Transaction,
    Ledger,
    Results,
}

/// A path with its names in braces, and what a method on it asks for.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) wish: Wish,
}

const fn route(method: &'static str, path: &'static str, wish: Wish) -> Route {
    Route { method, path, wish }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    route("GET", "/health", Wish::Health),
    route("GET", "/openapi.json", Wish::OpenApi),
    route(
        "GET",
        "/api/v1/balance/{accountId}/{currencyCode}",
        Wish::Balance,
    ),
    route("POST", "/api/v1/balance/change", Wish::Change),
    route("POST", "/api/v1/balance/changes", Wish::Changes),
    route("POST", "/api/v1/transfers", Wish::Transfer),
    route("POST", "/api/v1/accounts", Wish::Open),
    route(
        "GET",
        "/api/v1/transactions/{userId}/{transactionId}",
        Wish::Transaction,
    ),
    route("GET", "/api/v1/ledger/{accountId}", Wish::Ledger),
    route("GET", "/api/v1/results", Wish::Results),
];

/// What a path and method lead to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Here, with what stands in place of the names, decoded.
    Here(Wish, Vec<String>),
    /// The path is there, for these methods.
    OtherMethod(String),
    /// There is no such path.
    Nowhere,
    /// The path cannot be decoded.
    Unreadable,
}

/// Looks a method and a path (without query) up. HEAD is where GET is.
pub(super) fn find(method: &str, path: &str) -> Found {
    let mut others: Vec<&str> = Vec::new();
    for route in ROUTES {
        let Some(raw) = matched(route.path, path) else {
            continue;
        };
        if route.method == method || (method == "HEAD" && route.method == "GET") {
            let names = raw.into_iter().map(|raw| decoded(raw, false));
            return match names.collect() {
                Some(names) => Found::Here(route.wish, names),
                None => Found::Unreadable,
            };
        }
        others.push(route.method);
        if route.method == "GET" {
            others.push("HEAD");
        }
    }
    if others.is_empty() {
        Found::Nowhere
    } else {
        Found::OtherMethod(others.join(", "))
    }
}

/// What stands in place of the names, if the path fits.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut names = Vec::new();
    let (mut ours, mut theirs) = (pattern.split('/'), path.split('/'));
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Some(names),
            (Some(ours), Some(theirs)) if ours.starts_with('{') => names.push(theirs),
            (Some(ours), Some(theirs)) if ours == theirs => {}
            _ => return None,
        }
    }
}

/// A text with `%xx` (and, in a query, `+`) taken for what they stand for; `None` if that is no
/// UTF-8, or a `%` stands for nothing.
pub(super) fn decoded(text: &str, is_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high << 4 | low).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The names and values of a query, in order; `None` if one cannot be decoded.
pub(super) fn query(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name, true)?, decoded(value, true)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_one_place() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let table = [
            ("GET", "/health", Found::Here(Wish::Health, vec![])),
            ("HEAD", "/health", Found::Here(Wish::Health, vec![])),
            ("POST", "/health", Found::OtherMethod("GET, HEAD".into())),
            ("GET", "/health/", Found::Nowhere),
            ("GET", "//health", Found::Nowhere),
            ("GET", "/Health", Found::Nowhere),
            (
                "GET",
                "/api/v1/balance/42/US%44T",
                Found::Here(Wish::Balance, names(&["42", "USDT"])),
            ),
            (
                "POST",
                "/api/v1/balance/change",
                Found::Here(Wish::Change, vec![]),
            ),
            (
                "GET",
                "/api/v1/balance/change",
                Found::OtherMethod("POST".into()),
            ),
            (
                "DELETE",
                "/api/v1/balance/1/A",
                Found::OtherMethod("GET, HEAD".into()),
            ),
            (
                "GET",
                "/api/v1/transactions/a%2Fb+c/%C3%A9",
                Found::Here(Wish::Transaction, names(&["a/b+c", "é"])),
            ),
            ("GET", "/api/v1/transactions/%ff/t", Found::Unreadable),
            ("GET", "/api/v1/transactions/%2/t", Found::Unreadable),
            ("GET", "/api/v1/transactions/%+1/t", Found::Unreadable),
        ];
        for (method, path, found) in table {
            assert_eq!(find(method, path), found, "{method} {path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query("a=1&b=x+y%2b&a=&c"),
            Some(vec![
                pair("a", "1"),
                pair("b", "x y+"),
                pair("a", ""),
                pair("c", "")
            ])
        );
        assert_eq!(query(""), Some(vec![]));
        assert_eq!(query("a=%zz"), None);
    }
}
