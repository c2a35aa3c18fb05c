//! What clients of the prototype rely on never changes.

use prost_reflect::{DescriptorPool, Kind};

use crate::api::wire::DESCRIPTORS;

/// Each message, enum and method as a line a field, with numbers.
fn described(pool: &DescriptorPool) -> Vec<String> {
    let mut lines = Vec::new();
    let in_package = |name: &str| name.starts_with("balance.");
    for message in pool
        .all_messages()
        .filter(|each| in_package(each.full_name()) && !each.is_map_entry())
    {
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(inner) if inner.is_map_entry() => {
                    let (key, value) = (inner.map_entry_key_field(), inner.map_entry_value_field());
                    format!("repeated map<{:?},{:?}>", key.kind(), value.kind())
                }
                Kind::Message(inner) => inner.name().to_owned(),
                Kind::Enum(inner) => inner.name().to_owned(),
                other => format!("{other:?}").to_ascii_lowercase(),
            };
            let kind = kind.to_ascii_lowercase();
            let list = if field.is_list() { "repeated " } else { "" };
            let (message, field, number) = (message.name(), field.name(), field.number());
            lines.push(format!("{message} {list}{kind} {field} = {number}"));
        }
    }
    for each in pool.all_enums().filter(|each| in_package(each.full_name())) {
        for value in each.values() {
            lines.push(format!(
                "{} {} = {}",
                each.name(),
                value.name(),
                value.number()
            ));
        }
    }
    for service in pool.services().filter(|each| in_package(each.full_name())) {
        for method in service.methods() {
            let stream = |is: bool| if is { "stream " } else { "" };
            lines.push(format!(
                "rpc {}({}{}) returns ({}{})",
                method.name(),
                stream(method.is_client_streaming()),
                method.input().name(),
                stream(method.is_server_streaming()),
                method.output().name()
            ));
        }
    }
    lines
}

#[test]
fn no_field_of_the_prototype_ever_changes() {
    let ours = described(&DescriptorPool::decode(DESCRIPTORS).unwrap());
    let golden = include_str!("../../../tests/data/prototype.fields");
    let golden: Vec<&str> = golden.lines().collect();
    assert_eq!(golden.len(), 34);
    for line in golden {
        assert!(
            ours.iter().any(|ours| ours == line),
            "{line} is not in {ours:#?}"
        );
    }
}

#[test]
fn the_prototypes_own_file_says_the_same() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let theirs = protox::compile(["prototype.proto"], [folder]).unwrap();
    let theirs = DescriptorPool::from_file_descriptor_set(theirs).unwrap();
    let golden = include_str!("../../../tests/data/prototype.fields");
    let mut golden: Vec<&str> = golden.lines().collect();
    let mut theirs = described(&theirs);
    golden.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(theirs, golden);
}
