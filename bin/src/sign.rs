//! `kilter sign`: headers that make a request believed.

use std::{fs, io, io::Read, path::Path};

use anyhow::Context;
use kilter_engine::clock::Clock;
use kilter_io::{
    api::{
        KEY_ID_HEADER, Key, SIGNATURE_HEADER, SecretSource, TIMESTAMP_HEADER, request_from_json,
        sign,
    },
    clock::SystemClock,
};

use crate::{Answer, cli};

/// The largest body, in bytes: more than any server takes.
const BODY_MAX_BYTES: u64 = 64 << 20;

/// Runs `kilter sign`.
///
/// # Errors
///
/// When there is no good secret, or the body cannot be read or is not the method's request.
pub fn run(args: &cli::Sign) -> anyhow::Result<Answer> {
    let source = match (&args.secret_file, &args.secret) {
        (Some(path), _) => SecretSource::File(path.clone()),
        (None, Some(secret)) => SecretSource::Value(secret.clone()),
        (None, None) => anyhow::bail!("no secret: give --secret-file, or HMAC_SECRET"),
    };
    let key = Key::load(&args.key_id, &source)?;
    let body = body(&args.body)?;
    let body = match &args.grpc {
        None => body,
        Some(method) => {
            let json = String::from_utf8(body).context("the request is not UTF-8")?;
            request_from_json(method, &json)?
        }
    };
    if let Some(path) = &args.frame {
        fs::write(path, framed(&body)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let now_ms = || SystemClock::new().wall_ms();
    let timestamp_ms = args.timestamp_ms.unwrap_or_else(now_ms);
    let signature = sign(&key, timestamp_ms, &body);
    let timestamp = timestamp_ms.to_string();
    let headers = [
        (KEY_ID_HEADER, args.key_id.as_str()),
        (TIMESTAMP_HEADER, timestamp.as_str()),
        (SIGNATURE_HEADER, signature.as_str()),
    ];
    for (name, value) in headers {
        if args.args {
            print!("-H '{name}: {value}' ");
        } else {
            println!("{name}: {value}");
        }
    }
    if args.args {
        println!();
    }
    Ok(Answer::Yes)
}

/// The body as it will be sent, byte by byte.
fn body(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().take(BODY_MAX_BYTES + 1))
    } else {
        let file = fs::File::open(path);
        let file = file.with_context(|| format!("cannot read {}", path.display()))?;
        Box::new(file.take(BODY_MAX_BYTES + 1))
    };
    let mut body = Vec::new();
    from.read_to_end(&mut body)
        .with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        body.len() as u64 <= BODY_MAX_BYTES,
        "{} has more than {BODY_MAX_BYTES} bytes",
        path.display()
    );
    Ok(body)
}

/// A message with gRPC's five bytes before it: not compressed, and its length.
fn framed(message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(message.len()).context("the message is too long for gRPC")?;
    Ok([&[0], &length.to_be_bytes()[..], message].concat())
}
