//! Nodes on a directory.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{fs::File, process::Stdio};

use super::{
    Place,
    process::Node,
    rest::{Rest, SECRET},
};

/// A node whose front door is open.
pub fn serve(place: &Place, env: &[(&str, &str)]) -> Node {
    let log = place.path("serve.log");
    let child = place
        .kilter(&["serve"])
        .env_remove("HMAC_SECRET")
        .env("GRPC_PORT", "0")
        .env("PORT", "0")
        .envs(env.iter().copied())
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let node = Node {
        child,
        log,
        stopped: false,
    };
    node.wait_for("its address", |node| node.rest().is_some());
    node
}

/// A client of it, with the secret that the directory has.
pub fn client(place: &Place, node: &Node) -> Rest {
    let secret = std::fs::read_to_string(place.data().join("api.secret"));
    let mut rest = Rest::new(&node.rest().unwrap());
    rest.secret = secret.map_or_else(|_| SECRET.to_owned(), |text| text.trim_end().to_owned());
    rest
}
