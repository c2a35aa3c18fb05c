//! The description of the paths agrees with what is served.

use std::collections::BTreeSet;

use prost_reflect::DescriptorPool;
use serde_json::Value;

use crate::api::{OPENAPI, route::ROUTES, wire::DESCRIPTORS};

fn described() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn every_path_is_described_and_none_besides() {
    let described = described();
    let mut theirs = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            theirs.insert((method.to_uppercase(), path.clone()));
            let named = operation["parameters"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let named: BTreeSet<_> = named
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()))
                .collect();
            let used: BTreeSet<_> = path
                .split('/')
                .filter(|part| part.starts_with('{'))
                .map(str::to_owned)
                .collect();
            assert_eq!(named, used, "{path}");
            // What changes something is signed and may be refused for it.
            let changes = method == "post";
            assert_eq!(operation["security"].is_array(), changes, "{path}");
            if changes {
                for status in ["400", "401", "413", "415", "429", "503"] {
                    assert!(
                        operation["responses"][status].is_object(),
                        "{path} {status}"
                    );
                }
            }
        }
    }
    let ours = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()));
    assert_eq!(theirs, ours.collect());
}

#[test]
fn schemas_have_the_fields_of_the_messages() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let described = described();
    let mut seen = 0;
    for (name, schema) in described["components"]["schemas"].as_object().unwrap() {
        let Some(message) = schema["x-message"].as_str() else {
            continue;
        };
        let message = pool
            .get_message_by_name(&format!("balance.{message}"))
            .unwrap();
        let ours: BTreeSet<_> = message
            .fields()
            .map(|field| field.name().to_owned())
            .collect();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(ours, properties.keys().cloned().collect(), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 16);
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(
                    fields
                        .get("$ref")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                fields.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let described = described();
    let mut found = Vec::new();
    walk(&described, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let at = reference.strip_prefix('#').unwrap();
        assert!(described.pointer(at).is_some(), "{reference}");
    }
}
