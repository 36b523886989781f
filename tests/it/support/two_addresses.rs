//! A host name with two addresses, for the bridge alone: a library that is loaded ahead of libc and knows the name. And an
//! address at which SYNs stay without an answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::process::run_to_end;
use super::scratch::Scratch;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (node == NULL || strcmp(node, NAME) != 0) return real(node, service, hints, found);
    struct addrinfo *second = NULL;
    int failed = real(SECOND, service, hints, &second);
    if (failed) return failed;
    failed = real(FIRST, service, hints, found);
    if (failed) return failed;
    struct addrinfo *last = *found;
    while (last->ai_next != NULL) last = last->ai_next;
    last->ai_next = second;
    return 0;
}
"#;

pub struct TwoAddresses {
    scratch: Scratch,
}

impl TwoAddresses {
    pub const NAME: &str = "two-addresses.test";
    pub const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    pub const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// `None` where there is no C compiler.
    pub fn compile() -> Option<TwoAddresses> {
        if let Err(error) = Command::new("cc").arg("--version").output() {
            println!("no C compiler: {error}");
            return None;
        }
        let scratch = Scratch::new("two-addresses");
        let mut command = Command::new("cc");
        command
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(scratch.join("two_addresses.so"))
            .arg(format!("-DNAME=\"{}\"", Self::NAME))
            .arg(format!("-DFIRST=\"{}\"", Self::FIRST))
            .arg(format!("-DSECOND=\"{}\"", Self::SECOND))
            .arg(scratch.write("two_addresses.c", SOURCE))
            .arg("-ldl");
        let output = run_to_end(command, Duration::from_secs(60));
        assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Some(TwoAddresses { scratch })
    }

    /// For the process that is to know the name.
    pub fn variables(&self) -> [(&'static str, String); 1] {
        [("LD_PRELOAD", self.scratch.join("two_addresses.so").display().to_string())]
    }
}

/// Nobody accepts there, and the queue of the listener is full.
pub struct Deaf {
    _listener: TcpListener,
    _fill: Vec<TcpStream>,
}

impl Deaf {
    pub async fn at(address: SocketAddr) -> Deaf {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut fill = Vec::new();
        let patience = Duration::from_millis(500);
        while let Ok(connected) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
            fill.push(connected.unwrap());
            assert!(fill.len() < 100, "the queue never gets full");
        }
        Deaf { _listener: listener, _fill: fill }
    }
}
