//! The paths of REST: requests in, answers out.

use serde_json::Value;

use super::{
    Api, Problem, ProblemKind, Signed,
    caller::Caller,
    change::Changed,
    from_json::{Fields, HeaderKey},
    problem::shown,
    route::{self, Found, Wish},
    seams::Answer,
    to_json,
    wire::balance as wire,
};

/// The description of all paths, as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

const JSON: &str = "application/json";

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RestRequest<'a> {
    pub(super) method: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) signed: Signed<'a>,
    /// Headers that count; `None` if missing.
    pub(super) content_type: Option<&'a str>,
    pub(super) content_encoding: Option<&'a str>,
    pub(super) idempotency_key: Option<&'a str>,
    /// Who asks.
    pub(super) caller: &'a Caller,
    pub(super) body: &'a [u8],
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestAnswer {
    pub(super) status: u16,
    /// Beside content-type, which is always JSON.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl RestAnswer {
    fn json(status: u16, value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        let headers = Vec::new();
        Self {
            status,
            headers,
            body,
        }
    }

    /// A problem with a status of HTTP's own.
    fn plain(status: u16, message: String) -> Self {
        let problem = Problem::new(ProblemKind::Invalid, message);
        Self::json(status, &to_json::problem(&problem))
    }
}

/// What a request came to.
pub(super) enum Handled {
    /// It is answered by the callback it was given.
    Answered,
    /// It watches results; the callback was dropped.
    Watch(wire::WatchResultsRequest),
}

type Told = Answer<RestAnswer>;

impl Api {
    /// Answers a request, perhaps later and from another thread.
    pub(super) fn rest(&self, request: &RestRequest<'_>, told: Told) -> Handled {
        let (wish, names) = match route::find(request.method, request.path) {
            Found::Here(wish, names) => (wish, names),
            Found::OtherMethod(allowed) => {
                let message = format!(
                    "{} is not for this path; allowed: {allowed}",
                    request.method
                );
                let mut answer = RestAnswer::plain(405, message);
                answer.headers.push(("allow", allowed));
                told(answer);
                return Handled::Answered;
            }
            Found::Nowhere => {
                let message = format!(
                    "no path {}; /openapi.json says which there are",
                    shown(request.path)
                );
                told(RestAnswer::plain(404, message));
                return Handled::Answered;
            }
            Found::Unreadable => {
                let path = shown(request.path);
                told(RestAnswer::plain(
                    400,
                    format!("the path {path} is not UTF-8 in %xx"),
                ));
                return Handled::Answered;
            }
        };
        if let Some(answer) = self.unfit(wish, request) {
            told(answer);
            return Handled::Answered;
        }
        if wish == Wish::Results {
            // Nothing is watched for a head alone.
            if request.method == "HEAD" {
                told(RestAnswer::json(200, &Value::Null));
                return Handled::Answered;
            }
            match watch_request(request.query) {
                Ok(request) => return Handled::Watch(request),
                Err(problem) => told(self.problem(&problem)),
            }
            return Handled::Answered;
        }
        match wish {
            Wish::Health => told(self.health()),
            Wish::OpenApi => told(RestAnswer {
                status: 200,
                headers: Vec::new(),
                body: OPENAPI.as_bytes().to_vec(),
            }),
            Wish::Change | Wish::Transfer => self.rest_change(wish, request, told),
            Wish::Changes => self.rest_changes(request, told),
            Wish::Open => self.rest_open(request.body, told),
            Wish::Balance => self.rest_balance(&names, request, told),
            Wish::Transaction => self.rest_transaction(names, request, told),
            Wish::Ledger | Wish::Results => self.rest_ledger(&names, request, told),
        }
        Handled::Answered
    }

    /// Says so if a request has the wrong form of body, or is not signed as it must be.
    fn unfit(&self, wish: Wish, request: &RestRequest<'_>) -> Option<RestAnswer> {
        let changes = matches!(
            wish,
            Wish::Change | Wish::Changes | Wish::Transfer | Wish::Open
        );
        if changes {
            let coding = request.content_encoding.unwrap_or("identity");
            if !coding.eq_ignore_ascii_case("identity") {
                let message = format!("content-encoding {coding} is not taken, identity is");
                return Some(RestAnswer::plain(415, message));
            }
            if !is_json(request.content_type) {
                let given = request.content_type.unwrap_or("missing");
                let message = format!("content-type is {given}, {JSON} is taken");
                return Some(RestAnswer::plain(415, message));
            }
        }
        if matches!(wish, Wish::Health | Wish::OpenApi) {
            return None;
        }
        // Where there is no body, what is asked is in the target.
        let mut target = request.path.to_owned();
        if !request.query.is_empty() {
            target.push('?');
            target.push_str(request.query);
        }
        let what = if changes {
            request.body
        } else {
            target.as_bytes()
        };
        let signing = &self.settings.signing;
        let admitted = signing.admit(changes, request.signed, what, self.now_ms());
        admitted.err().map(|problem| self.problem(&problem))
    }

    /// A problem as an answer.
    fn problem(&self, problem: &Problem) -> RestAnswer {
        refused(
            self.settings.retry_after_s,
            problem,
            &to_json::problem(problem),
        )
    }

    fn health(&self) -> RestAnswer {
        let (healthy, status) = self.parts.health.get();
        let value = serde_json::json!({
            "healthy": healthy, "status": status, "timestamp": self.now_ms(),
        });
        RestAnswer::json(if healthy { 200 } else { 503 }, &value)
    }

    /// An answer for a result, later.
    fn teller<T: 'static>(&self, told: Told, shape: fn(&T) -> Value) -> Answer<Result<T, Problem>> {
        let retry_after_s = self.settings.retry_after_s;
        Box::new(move |result| match result {
            Ok(value) => told(RestAnswer::json(200, &shape(&value))),
            Err(problem) => told(refused(
                retry_after_s,
                &problem,
                &to_json::problem(&problem),
            )),
        })
    }

    fn rest_change(&self, wish: Wish, request: &RestRequest<'_>, told: Told) {
        let key = request.idempotency_key.map(|text| HeaderKey {
            text,
            is_believed: !self.settings.signing.signs_changes(),
        });
        let draft = Fields::of_body(request.body).and_then(|fields| match wish {
            Wish::Transfer => fields.transfer(key),
            _ => fields.change(key),
        });
        let retry_after_s = self.settings.retry_after_s;
        let answer: Answer<Changed> = Box::new(move |changed| {
            let value = to_json::changed(&changed);
            told(match &changed.problem {
                None => RestAnswer::json(200, &value),
                Some(problem) => refused(retry_after_s, problem, &value),
            });
        });
        match draft {
            Err(problem) => answer(Changed::refused("", problem)),
            Ok(draft) => self.change(&draft, request.caller, answer),
        }
    }

    fn rest_changes(&self, request: &RestRequest<'_>, told: Told) {
        let answer = self.teller(told, |answers: &Vec<Changed>| to_json::changes(answers));
        match Fields::of_body(request.body).and_then(Fields::changes) {
            Err(problem) => answer(Err(problem)),
            Ok((drafts, wait, wait_ms)) => {
                self.changes(drafts, (wait, wait_ms), request.caller, answer);
            }
        }
    }

    fn rest_open(&self, body: &[u8], told: Told) {
        let answer = self.teller(told, to_json::opened);
        match Fields::of_body(body).and_then(Fields::open) {
            Err(problem) => answer(Err(problem)),
            Ok(draft) => self.open(&draft, answer),
        }
    }

    fn rest_balance(&self, names: &[String], request: &RestRequest<'_>, told: Told) {
        let answer = self.teller(told, to_json::balance);
        let caller = request.caller;
        let request = account_of(names).and_then(|account_id| {
            let mut query = Query::read(request.query)?;
            Ok(wire::GetBalanceRequest {
                account_id,
                currency_code: names.get(1).cloned().unwrap_or_default(),
                min_version: query.whole("min_version")?,
            })
        });
        match request {
            Err(problem) => answer(Err(problem)),
            Ok(request) => self.balance(&request, caller, answer),
        }
    }

    fn rest_transaction(&self, names: Vec<String>, request: &RestRequest<'_>, told: Told) {
        let answer = self.teller(told, to_json::transaction);
        let caller = request.caller;
        let mut names = names.into_iter();
        let request = wire::GetTransactionRequest {
            user_id: names.next().unwrap_or_default(),
            transaction_id: names.next().unwrap_or_default(),
        };
        self.transaction(request, caller, answer);
    }

    fn rest_ledger(&self, names: &[String], request: &RestRequest<'_>, told: Told) {
        let answer = self.teller(told, to_json::ledger);
        let caller = request.caller;
        let request = account_of(names).and_then(|account_id| {
            let mut query = Query::read(request.query)?;
            let size = query.whole("page_size")?;
            let page_token = query.text("page_token")?;
            query.end()?;
            Ok(wire::ListLedgerRequest {
                account_id,
                // Whatever does not fit is out of range in any case.
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token,
            })
        });
        match request {
            Err(problem) => answer(Err(problem)),
            Ok(request) => self.ledger(&request, caller, answer),
        }
    }
}

/// A problem with its status, and when to come back if that may help.
fn refused(retry_after_s: u32, problem: &Problem, value: &Value) -> RestAnswer {
    let mut answer = RestAnswer::json(problem.kind.http(), value);
    if matches!(
        problem.kind,
        ProblemKind::Overload | ProblemKind::Unavailable
    ) {
        answer
            .headers
            .push(("retry-after", retry_after_s.to_string()));
    }
    answer
}

/// JSON, perhaps with its only character set.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else {
        return false;
    };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case(JSON));
    is_json
        && parts.all(|part| {
            part.is_empty()
                || part.eq_ignore_ascii_case("charset=utf-8")
                || part.eq_ignore_ascii_case("charset=\"utf-8\"")
        })
}

/// The account that a path names.
fn account_of(names: &[String]) -> Result<i64, Problem> {
    whole("account_id", names.first().map_or("", String::as_str))
}

fn whole(field: &str, text: &str) -> Result<i64, Problem> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = text.parse().ok();
    number
        .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| {
            let what = format!("{} is not a whole number of 64 bits", shown(text));
            Problem::field(field, what)
        })
}

/// What a query says.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: &str) -> Result<Self, Problem> {
        let pairs = route::query(query);
        pairs
            .map(Self)
            .ok_or_else(|| Problem::new(ProblemKind::Invalid, "the query is not UTF-8 in %xx"))
    }

    /// Every value of a name, in order.
    fn all(&mut self, name: &str) -> Vec<String> {
        let (ours, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|pair| pair.0 == name);
        self.0 = others;
        let ours: Vec<(String, String)> = ours;
        ours.into_iter().map(|pair| pair.1).collect()
    }

    /// The value of a name; empty if unset.
    fn text(&mut self, name: &str) -> Result<String, Problem> {
        let mut all = self.all(name);
        match all.len() {
            0 => Ok(String::new()),
            1 => Ok(all.remove(0)),
            count => Err(Problem::field(name, format!("is there {count} times"))),
        }
    }

    /// Refuses names that nobody asked for.
    fn end(&self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::field(name, "is not a name in this query")),
        }
    }

    /// The number of a name; 0 if unset.
    fn whole(&mut self, name: &str) -> Result<i64, Problem> {
        let text = self.text(name)?;
        if text.is_empty() {
            Ok(0)
        } else {
            whole(name, &text)
        }
    }
}

/// What a watcher asks for: `user_id`, and `after=generation:partition:offset:posting` as often as
/// there are partitions.
fn watch_request(query: &str) -> Result<wire::WatchResultsRequest, Problem> {
    let mut query = Query::read(query)?;
    let user_id = query.text("user_id")?;
    let after = query.all("after");
    query.end()?;
    let after = after.into_iter().map(|text| {
        let numbers: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
        let position = match numbers.as_deref() {
            Some(&[generation, partition, offset, posting]) => (|| {
                Some(wire::Position {
                    generation: u32::try_from(generation).ok()?,
                    partition: u32::try_from(partition).ok()?,
                    offset: i64::try_from(offset).ok()?,
                    posting: u32::try_from(posting).ok()?,
                })
            })(),
            _ => None,
        };
        position.ok_or_else(|| {
            let text = shown(&text);
            Problem::field(
                "after",
                format!("{text} is not generation:partition:offset:posting"),
            )
        })
    });
    let after = after.collect::<Result<_, _>>()?;
    Ok(wire::WatchResultsRequest { user_id, after })
}
