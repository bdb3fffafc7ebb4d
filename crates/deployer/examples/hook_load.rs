//! Load for `make bench`: posts one hook over many kept connections, as fast as it is answered or at a fixed rate,
//! and prints what it saw as JSON. At a fixed rate a late answer counts from when its request was due, so that a
//! server that stalls cannot hide behind requests that were never sent.
//!
//! Arguments: ADDRESS PATH TOKEN IMAGE SECONDS CONNECTIONS [RATE]

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, token, image, seconds, connections, rate @ ..] = arguments.as_slice() else {
        bail!("arguments: ADDRESS PATH TOKEN IMAGE SECONDS CONNECTIONS [RATE]");
    };
    let body = format!("{{\"image\":\"{image}\"}}");
    let head = format!("POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n");
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let connections: u32 = connections.parse()?;
    let length = Duration::from_secs(seconds.parse()?);
    let rate: Option<f64> = rate.first().map(|rate| rate.parse()).transpose()?;
    let pause = rate.map(|rate| Duration::from_secs_f64(f64::from(connections) / rate));
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let (address, request) = (address.clone(), request.clone());
        let first = begun + pause.unwrap_or_default().mul_f64(f64::from(number) / f64::from(connections));
        clients.spawn(async move { client(&address, request.as_bytes(), first, begun + length, pause).await });
    }
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client??);
    }
    latencies.sort_unstable();
    let per_second = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    let at =
        |share: f64| latencies.get((latencies.len() as f64 * share) as usize).map_or(0.0, |l| l.as_secs_f64() * 1e3);
    #[expect(clippy::print_stdout, reason = "this is what it is for")]
    {
        println!("{{\"per_second\":{per_second:.0},\"p50_ms\":{:.2},\"p99_ms\":{:.2}}}", at(0.5), at(0.99));
    }
    Ok(())
}

/// One connection. Anything but a 202 ends the run: a hook that was not taken must not count.
async fn client(
    address: &str,
    request: &[u8],
    first: Instant,
    end: Instant,
    pause: Option<Duration>,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut due, mut latencies, mut buffer) = (first, Vec::new(), vec![0; 4096]);
    while Instant::now() < end {
        match pause {
            Some(pause) => {
                tokio::time::sleep_until(due).await;
                due += pause;
            }
            None => due = Instant::now(),
        }
        let asked = pause.map_or(due, |pause| due - pause);
        stream.write_all(request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]).into_owned();
        if read == 0 || filled == buffer.len() {
            bail!("no whole answer: {text}");
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 202") {
            bail!("not accepted: {text}");
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.context("an answer with a length")?;
        if body.len() >= length {
            return Ok(());
        }
    }
}
