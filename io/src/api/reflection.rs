//! What is served here, for tools that ask; and requests written as JSON.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor};

use super::{
    Problem, ProblemKind,
    problem::shown,
    wire::{
        DESCRIPTORS,
        balance::{ChangeBalanceRequest, ChangeBalancesRequest},
        reflection::{
            ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
            ServerReflectionResponse, ServiceResponse,
            server_reflection_request::MessageRequest as Asked,
            server_reflection_response::MessageResponse as Told,
        },
    },
};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the build wrote what it had compiled")
});

/// The gRPC code for what is not there.
const NOT_FOUND: i32 = 5;

/// Answers one request of the reflection protocol, of either version.
///
/// # Errors
///
/// When the message cannot be decoded.
pub(super) fn reflect(message: &[u8]) -> Result<Vec<u8>, Problem> {
    let request = ServerReflectionRequest::decode(message)
        .map_err(|error| Problem::new(ProblemKind::Invalid, error.to_string()))?;
    let file = |file: Option<FileDescriptor>, name: &str| match file {
        Some(file) => Told::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: vec![file.encode_to_vec()],
        }),
        None => none(format!("{} is not served here", shown(name))),
    };
    let told = match &request.message_request {
        Some(Asked::ListServices(_)) => {
            let services = POOL.services().map(|service| ServiceResponse {
                name: service.full_name().to_owned(),
            });
            Told::ListServicesResponse(ListServiceResponse {
                service: services.collect(),
            })
        }
        Some(Asked::FileByFilename(name)) => file(POOL.get_file_by_name(name), name),
        Some(Asked::FileContainingSymbol(name)) => file(holder(name), name),
        Some(Asked::FileContainingExtension(_) | Asked::AllExtensionNumbersOfType(_)) => {
            none("no message here has extensions".into())
        }
        None => none("nothing is asked".into()),
    };
    let response = ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(told),
    };
    Ok(response.encode_to_vec())
}

fn none(error_message: String) -> Told {
    Told::ErrorResponse(ErrorResponse {
        error_code: NOT_FOUND,
        error_message,
    })
}

/// The file in which a service, method, message, enum or field stands.
fn holder(name: &str) -> Option<FileDescriptor> {
    let service = |name: &str| POOL.get_service_by_name(name);
    let message = |name: &str| POOL.get_message_by_name(name);
    let inside = || {
        let (outer, inner) = name.rsplit_once('.')?;
        let method = service(outer)
            .filter(|service| service.methods().any(|method| method.name() == inner))
            .map(|service| service.parent_file());
        let field = || {
            message(outer)
                .filter(|message| message.get_field_by_name(inner).is_some())
                .map(|message| message.parent_file())
        };
        method.or_else(field)
    };
    service(name)
        .map(|service| service.parent_file())
        .or_else(|| message(name).map(|message| message.parent_file()))
        .or_else(|| POOL.get_enum_by_name(name).map(|each| each.parent_file()))
        .or_else(inside)
}

/// Why JSON is no request of a method.
#[derive(Debug, thiserror::Error)]
pub enum RequestJsonError {
    /// There is no such method.
    #[error("no method {method:?}; there are {known}")]
    Method {
        /// What was asked for.
        method: String,
        /// Those that there are.
        known: String,
    },
    /// It is not the method's message.
    #[error("not a {message}")]
    Json {
        /// The message.
        message: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// The request of a method of ours (`ChangeBalance`, or `balance.BalanceService/ChangeBalance`), from
/// protobuf's JSON, as a client would serialise it.
///
/// # Errors
///
/// When there is no such method, or the text is not its request.
pub fn request_from_json(method: &str, json: &str) -> Result<Vec<u8>, RequestJsonError> {
    let methods = || {
        POOL.services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
    };
    let name = method.trim_start_matches('/');
    let found = methods().find(|each| {
        let full = format!("{}/{}", each.parent_service().full_name(), each.name());
        let short = each.parent_service().full_name() == super::health::SERVICE;
        full == name || short && each.name() == name
    });
    let found = found.ok_or_else(|| {
        let ours = methods().filter(|each| each.parent_service().package_name() == "balance");
        RequestJsonError::Method {
            method: method.to_owned(),
            known: ours
                .map(|each| each.name().to_owned())
                .collect::<Vec<_>>()
                .join(" "),
        }
    })?;
    let read = || {
        let mut json = serde_json::Deserializer::from_str(json);
        let message = DynamicMessage::deserialize(found.input(), &mut json)?;
        json.end()?;
        Ok(sorted(found.input().name(), message.encode_to_vec()))
    };
    read().map_err(|source| RequestJsonError::Json {
        message: found.input().full_name().to_owned(),
        source,
    })
}

/// The message with the entries of its maps in order, so that equal requests are equal bytes.
fn sorted(message: &str, bytes: Vec<u8>) -> Vec<u8> {
    let sorted = match message {
        "ChangeBalanceRequest" => {
            ChangeBalanceRequest::decode(&*bytes).map(|request| request.encode_to_vec())
        }
        "ChangeBalancesRequest" => {
            ChangeBalancesRequest::decode(&*bytes).map(|request| request.encode_to_vec())
        }
        _ => return bytes,
    };
    sorted.unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asked: Asked) -> Told {
        let request = ServerReflectionRequest {
            host: "here".into(),
            message_request: Some(asked),
        };
        let response = reflect(&request.encode_to_vec()).unwrap();
        let response = ServerReflectionResponse::decode(&*response).unwrap();
        assert_eq!(response.valid_host, "here");
        assert_eq!(response.original_request, Some(request));
        response.message_response.unwrap()
    }

    #[test]
    fn services_and_files_are_told() {
        let Told::ListServicesResponse(list) = ask(Asked::ListServices(String::new())) else {
            panic!("no list");
        };
        let mut names: Vec<_> = list.service.iter().map(|each| each.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "balance.BalanceService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection"
            ]
        );
        for (asked, holds) in [
            (
                Asked::FileByFilename("balance.proto".into()),
                "balance.proto",
            ),
            (
                Asked::FileContainingSymbol("balance.BalanceService".into()),
                "balance.proto",
            ),
            (
                Asked::FileContainingSymbol("balance.BalanceService.GetBalance".into()),
                "balance.proto",
            ),
            (
                Asked::FileContainingSymbol("balance.ChangeBalanceRequest.amount".into()),
                "balance.proto",
            ),
            (
                Asked::FileContainingSymbol("balance.Outcome".into()),
                "balance.proto",
            ),
            (
                Asked::FileContainingSymbol("grpc.health.v1.Health".into()),
                "grpc/health/v1/health.proto",
            ),
        ] {
            let Told::FileDescriptorResponse(files) = ask(asked) else {
                panic!("no file {holds}");
            };
            let [file] = files.file_descriptor_proto.as_slice() else {
                panic!("not one file");
            };
            // Field 1 of a file's description is its name.
            let name = [&[0x0a, holds.len() as u8], holds.as_bytes()].concat();
            assert!(file.starts_with(&name), "{holds}");
        }
        for asked in [
            Asked::FileByFilename("other.proto".into()),
            Asked::FileContainingSymbol("balance.BalanceService.No".into()),
            Asked::FileContainingSymbol("No".into()),
            Asked::AllExtensionNumbersOfType("balance.Entry".into()),
        ] {
            assert!(matches!(
                ask(asked),
                Told::ErrorResponse(ErrorResponse {
                    error_code: NOT_FOUND,
                    ..
                })
            ));
        }
        assert!(reflect(b"\xff").is_err());
    }

    #[test]
    fn requests_are_written_as_clients_write_them() {
        let json = r#"{"transactionId":"t","account_id":"42","type":"FREEZE","amount":"1.5",
            "metadata":{"b":"2","a":"1"}}"#;
        let bytes = request_from_json("ChangeBalance", json).unwrap();
        let request = ChangeBalanceRequest::decode(&*bytes).unwrap();
        assert_eq!(request.encode_to_vec(), bytes);
        assert_eq!((request.account_id, request.r#type), (42, 2));
        assert_eq!(request.amount, "1.5");
        let full = "/balance.BalanceService/ChangeBalance";
        assert_eq!(request_from_json(full, json).unwrap(), bytes);
        let error = request_from_json("Change", "{}").unwrap_err().to_string();
        assert!(
            error.contains("ChangeBalance ") && error.contains("\"Change\""),
            "{error}"
        );
        assert!(request_from_json("ChangeBalance", r#"{"amounts":"1"}"#).is_err());
        assert!(request_from_json("ChangeBalance", "{} {}").is_err());
    }
}
