use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{server::Limits, *};

const LIMIT: Duration = Duration::from_secs(30);

fn server(limits: Limits) -> (Server, Arc<Health>) {
    let health = Arc::new(Health::starting("testing"));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let render = || "# TYPE a counter\na 1\n".to_owned();
    let server = Server::start_with(limits, any, Arc::clone(&health), render).unwrap();
    (server, health)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// All that comes until the other side closes.
fn rest(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).unwrap();
    rest(&stream)
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let text = ask(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{text}");
    assert!(head.contains("Connection: close"), "{text}");
    (text[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn figures_health_and_nothing_else() {
    let (server, health) = server(Limits::default());
    assert_eq!(
        get(&server, "/metrics"),
        (200, "# TYPE a counter\na 1\n".to_owned())
    );
    let text = ask(&server, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(
        text.contains("Content-Type: text/plain; version=0.0.4\r\n"),
        "{text}"
    );
    let text = ask(&server, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(
        text.contains("Content-Length: 21\r\n") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    for (state, healthy, ready) in [
        (None, 200, 503),
        (
            Some(State::Standby {
                leader: "n-2".to_owned(),
            }),
            200,
            503,
        ),
        (Some(State::CatchingUp { lag: 5 }), 200, 503),
        (Some(State::Ready), 200, 200),
        (
            Some(State::Paused {
                why: "mysql".to_owned(),
            }),
            200,
            503,
        ),
        (Some(State::Stopping), 200, 503),
        (
            Some(State::Failed {
                why: "disk".to_owned(),
            }),
            503,
            503,
        ),
    ] {
        if let Some(state) = state {
            health.set(state);
        }
        let json = serde_json::to_string(&health.state()).unwrap();
        assert_eq!(get(&server, "/healthz"), (healthy, json.clone()));
        assert_eq!(get(&server, "/readyz?x=y"), (ready, json));
    }
    for path in ["/", "/metrics/", "/Metrics", "*"] {
        assert_eq!(get(&server, path).0, 404, "{path}");
    }
}

#[test]
fn what_is_no_request_is_told_so() {
    let (server, _) = server(Limits::default());
    let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(9 << 10));
    let post = format!(
        "POST /metrics HTTP/1.1\r\nContent-Length: 9999\r\n\r\n{}",
        "x".repeat(9999)
    );
    for (request, status) in [
        ("DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (&post, "405"),
        ("nonsense\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let mut stream = connect(&server);
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let text = rest(&stream);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert_eq!(text.contains("Allow: GET, HEAD\r\n"), status == "405");
    }
    // Half a request and then nothing: no answer, and no harm.
    let mut stream = connect(&server);
    stream.write_all(b"GET /metr").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&stream), "");
    assert_eq!(get(&server, "/metrics").0, 200);
}

#[test]
fn a_request_may_come_in_pieces_but_not_for_ever() {
    let (server, _) = server(Limits {
        deadline: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut stream = connect(&server);
    for byte in b"GET /metrics HTTP/1.1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(rest(&stream).starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    let mut stream = connect(&server);
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let text = rest(&stream);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(begun.elapsed() < LIMIT);
}

#[test]
fn too_many_connections_are_told_so_and_the_others_go_on() {
    let (server, _) = server(Limits {
        connections_max: 2,
        ..Limits::default()
    });
    let mut first = connect(&server);
    let second = connect(&server);
    // They are taken in order: when the third is refused, two are open.
    let text = rest(&connect(&server));
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    first.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert!(rest(&first).starts_with("HTTP/1.1 200 "));
    drop(second);
    let until = Instant::now() + LIMIT;
    let is_served = || {
        // A refusal does not read the request, and may arrive as a reset.
        let mut stream = connect(&server);
        let mut text = String::new();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.starts_with("HTTP/1.1 200 ")
    };
    while !is_served() {
        assert!(Instant::now() < until, "connections that ended still count");
    }
}

#[test]
fn stopping_waits_for_nobody_and_frees_the_port() {
    let (mut server, health) = server(Limits::default());
    let idle = connect(&server);
    assert_eq!(get(&server, "/metrics").0, 200);
    let begun = Instant::now();
    server.stop();
    server.stop();
    assert!(begun.elapsed() < Limits::default().deadline);
    assert_eq!(rest(&idle), "");
    let again = Server::start(server.address(), health, String::new).unwrap();
    assert_eq!(get(&again, "/metrics"), (200, String::new()));
}
