//! The methods of gRPC: messages in, messages out.

use std::ops::RangeInclusive;

use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};

use super::{
    Api, Problem, ProblemKind, Signed,
    caller::Caller,
    change::Changed,
    reflection,
    seams::Answer,
    wire::{balance as wire, health},
};

/// A call with one request and one answer.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `/package.Service/Method`.
    pub path: &'a str,
    /// What the metadata says of the signature.
    pub signed: Signed<'a>,
    /// The message as it came.
    pub message: &'a [u8],
    /// Who calls.
    pub(super) caller: &'a Caller,
}

/// What a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Read,
    Change,
}

/// The methods with one request and one answer.
const UNARY: &[(&str, Needs)] = &[
    ("/balance.BalanceService/GetBalance", Needs::Read),
    ("/balance.BalanceService/ChangeBalance", Needs::Change),
    ("/balance.BalanceService/HealthCheck", Needs::Nothing),
    ("/balance.BalanceService/ChangeBalances", Needs::Change),
    ("/balance.BalanceService/OpenAccount", Needs::Change),
    ("/balance.BalanceService/GetTransaction", Needs::Read),
    ("/balance.BalanceService/ListLedger", Needs::Read),
    ("/grpc.health.v1.Health/Check", Needs::Nothing),
];

/// The method that feeds watchers.
pub const WATCH_RESULTS: &str = "/balance.BalanceService/WatchResults";
/// The method that watches health.
pub const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
/// The methods that tell what is served.
pub const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Whether a path is a method with one request and one answer.
pub(super) fn is_unary(path: &str) -> bool {
    UNARY.iter().any(|(each, _)| *each == path)
}

/// The numbers of the fields of a method's request. A signature covers the message and not the
/// method, so each request that came after the prototype's has numbers that no other one has.
pub(super) fn numbers(method: &str) -> Option<RangeInclusive<u32>> {
    Some(match method {
        "OpenAccount" => 16..=17,
        "ChangeBalances" => 32..=34,
        "GetTransaction" => 48..=49,
        "ListLedger" => 64..=66,
        "WatchResults" => 80..=81,
        _ => return None,
    })
}

/// Refuses a message with a field that its method does not have: it was made for another one, or
/// asks for what this server does not know. The prototype's methods ignore such fields.
fn only_its_own(method: &str, message: &[u8]) -> Result<(), Problem> {
    let Some(numbers) = numbers(method) else {
        return Ok(());
    };
    let mut rest = message;
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).map_err(|error| undecodable(&error))?;
        if !numbers.contains(&number) {
            let message =
                format!("the message has field {number}, and {method} has none of that number");
            return Err(Problem::new(ProblemKind::Invalid, message));
        }
        skip_field(wire_type, number, &mut rest, DecodeContext::default())
            .map_err(|error| undecodable(&error))?;
    }
    Ok(())
}

fn undecodable(error: &prost::DecodeError) -> Problem {
    let message = format!("the message cannot be decoded: {error}");
    Problem::new(ProblemKind::Invalid, message)
}

/// The answer to a call.
pub type Answered = Answer<Result<Vec<u8>, Problem>>;

impl Api {
    /// Answers a call, perhaps later and from another thread. A path that is no unary method is
    /// answered as a fault of ours: whoever calls looks first.
    pub(super) fn unary(&self, call: Call<'_>, answer: Answered) {
        let needs = UNARY.iter().find(|(path, _)| *path == call.path);
        let needs = needs.map_or(Needs::Nothing, |(_, needs)| *needs);
        if needs != Needs::Nothing {
            let changes = needs == Needs::Change;
            let (signed, body) = (call.signed, call.message);
            let signing = &self.settings.signing;
            if let Err(problem) = signing.admit(changes, signed, body, self.now_ms()) {
                return answer(Err(problem));
            }
        }
        let (message, caller) = (call.message, call.caller);
        let method = call.path.rsplit('/').next().unwrap_or_default();
        if let Err(problem) = only_its_own(method, message) {
            return answer(Err(problem));
        }
        match method {
            "GetBalance" => with(message, answer, |request, answer| {
                let told = Box::new(|result| answer(balance(result).map(encoded)));
                self.balance(&request, caller, told);
            }),
            "ChangeBalance" => with(
                message,
                answer,
                |request: wire::ChangeBalanceRequest, answer| {
                    let told = Box::new(|result| answer(changed(result).map(encoded)));
                    self.change(&request.into(), caller, told);
                },
            ),
            "ChangeBalances" => with(message, answer, |request, answer| {
                let request: wire::ChangeBalancesRequest = request;
                let wait = (request.wait, request.wait_ms);
                let drafts = request.changes.into_iter().map(|change| Ok(change.into()));
                let told = Box::new(|result: Result<Vec<Changed>, Problem>| {
                    answer(result.map(|answers| {
                        encoded(wire::ChangeBalancesResponse {
                            answers: answers.into_iter().map(single).collect(),
                        })
                    }));
                });
                self.changes(drafts.collect(), wait, caller, told);
            }),
            "OpenAccount" => with(
                message,
                answer,
                |request: wire::OpenAccountRequest, answer| {
                    let told = Box::new(|result: Result<_, _>| answer(result.map(encoded)));
                    self.open(&request.into(), told);
                },
            ),
            "GetTransaction" => with(message, answer, |request, answer| {
                let told = Box::new(|result: Result<_, _>| answer(result.map(encoded)));
                self.transaction(request, caller, told);
            }),
            "ListLedger" => with(message, answer, |request, answer| {
                let told = Box::new(|result: Result<_, _>| answer(result.map(encoded)));
                self.ledger(&request, caller, told);
            }),
            "HealthCheck" => with(message, answer, |_: wire::HealthCheckRequest, answer| {
                let (healthy, status) = self.parts.health.get();
                let timestamp = self.now_ms();
                answer(Ok(encoded(wire::HealthCheckResponse {
                    healthy,
                    status,
                    timestamp,
                })));
            }),
            "Check" => with(
                message,
                answer,
                |request: health::HealthCheckRequest, answer| {
                    let serving = self.parts.health.serving(&request.service);
                    answer(match serving {
                        Some(status) => Ok(serving_status(status)),
                        None => {
                            let message = "no such service";
                            Err(Problem::new(ProblemKind::NotFound, message))
                        }
                    });
                },
            ),
            other => {
                let message = format!("{other} has no answer of its own");
                answer(Err(Problem::new(ProblemKind::Internal, message)));
            }
        }
    }

    /// Answers a request for what is served.
    pub(super) fn reflect(&self, message: &[u8]) -> Result<Vec<u8>, Problem> {
        reflection::reflect(message)
    }

    /// Reads a request to watch, if it may.
    pub(super) fn watch_request(
        &self,
        signed: Signed<'_>,
        message: &[u8],
    ) -> Result<wire::WatchResultsRequest, Problem> {
        let signing = &self.settings.signing;
        signing.admit(false, signed, message, self.now_ms())?;
        only_its_own("WatchResults", message)?;
        decoded(message)
    }
}

/// The message of a health state.
pub(super) fn serving_status(status: health::health_check_response::ServingStatus) -> Vec<u8> {
    encoded(health::HealthCheckResponse {
        status: status.into(),
    })
}

/// The message, or why there is none.
pub(super) fn decoded<M: Message + Default>(message: &[u8]) -> Result<M, Problem> {
    M::decode(message).map_err(|error| undecodable(&error))
}

fn with<M: Message + Default>(message: &[u8], answer: Answered, then: impl FnOnce(M, Answered)) {
    match decoded(message) {
        Ok(request) => then(request, answer),
        Err(problem) => answer(Err(problem)),
    }
}

fn encoded(message: impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// The prototype's way: OK with a message, unless the problem concerns the call.
fn balance(
    result: Result<wire::GetBalanceResponse, Problem>,
) -> Result<wire::GetBalanceResponse, Problem> {
    match result {
        Err(problem) if !problem.kind.concerns_the_call() => Ok(wire::GetBalanceResponse {
            error_message: problem.message,
            ..wire::GetBalanceResponse::default()
        }),
        result => result,
    }
}

/// As [`balance`].
fn changed(changed: Changed) -> Result<wire::ChangeBalanceResponse, Problem> {
    match changed.problem {
        Some(problem) if problem.kind.concerns_the_call() => Err(problem),
        _ => Ok(changed.response),
    }
}

/// One answer among several.
pub(super) fn single(changed: Changed) -> wire::ChangeAnswer {
    let (code, field) = match changed.problem {
        Some(problem) => (problem.kind.grpc(), problem.field.unwrap_or_default()),
        None => (0, String::new()),
    };
    wire::ChangeAnswer {
        response: Some(changed.response),
        code,
        field,
    }
}
