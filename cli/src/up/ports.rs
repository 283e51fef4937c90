//! The ports of the services: checked before anything starts, held until the service that wants them does.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
};

use crate::error::Error;

/// A port that nobody else can take while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    /// Address and port.
    pub(crate) address: SocketAddr,
    held: Option<TcpListener>,
}

impl Port {
    /// Takes `port`, or a free one for 0. `flag` is how the user chooses another.
    pub(crate) fn take(host: IpAddr, port: u16, flag: &str) -> Result<Self, Error> {
        let wanted = SocketAddr::new(host, port);
        let listener = TcpListener::bind(wanted).map_err(|error| refusal(wanted, flag, &error))?;
        let address = listener.local_addr().map_err(|error| refusal(wanted, flag, &error))?;
        Ok(Self { address, held: Some(listener) })
    }

    /// Takes any free port: for what no user types. A fixed one would be fought for by platforms that start at once.
    pub(crate) fn any(host: IpAddr) -> Result<Self, Error> {
        Self::take(host, 0, "")
    }

    /// Lets go of the port for the service that is about to listen there.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

fn refusal(wanted: SocketAddr, flag: &str, error: &std::io::Error) -> Error {
    let port = wanted.port();
    match error.kind() {
        ErrorKind::AddrInUse => Error::new(format!("port {port} is taken: another program listens on {wanted}"))
            .hint(format!("choose another port with {flag} (0 takes any free one)"))
            .hint(format!("see who has it: ss -ltnp 'sport = :{port}'")),
        ErrorKind::PermissionDenied => {
            Error::new(format!("port {port} is for root alone")).hint(format!("choose a port above 1023 with {flag}"))
        }
        ErrorKind::AddrNotAvailable => Error::new(format!("{} is not an address of this machine", wanted.ip()))
            .hint("choose another address with --host"),
        _ => Error::new(format!("cannot listen on {wanted}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn says_which_port_is_taken_and_which_flag_chooses_another() {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut first = Port::take(host, 0, "--http-port").unwrap();
        let port = first.address.port();
        let report = Port::take(host, port, "--http-port").unwrap_err().report();
        assert!(report.contains(&format!("port {port} is taken")), "{report}");
        assert!(report.contains("--http-port"), "{report}");
        first.release();
        assert_eq!(Port::take(host, port, "--http-port").unwrap().address.port(), port);
    }
}
