//! Looks at a container's own address from here: TCP, and one HTTP request.

use std::net::SocketAddr;
use std::time::Duration;

use deployer_wire::{self as wire, Call, Endpoint};
use hyper::Method;
use tokio::net::TcpStream;

use crate::engine::HttpProbe;

/// Whether something accepts a connection.
pub async fn connects(address: SocketAddr, limit: Duration) -> bool {
    matches!(tokio::time::timeout(limit, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// The status of one GET; redirects are not followed.
pub async fn http_get(address: SocketAddr, path: &str, limit: Duration) -> HttpProbe {
    let call = Call { method: Method::GET, path, headers: vec![("connection", "close".to_owned())], body: None };
    match wire::send(&Endpoint::Tcp(address.to_string()), call, limit).await {
        Ok(answer) => HttpProbe::Status(answer.status.as_u16()),
        Err(error) => HttpProbe::NoAnswer(error.to_string()),
    }
}
