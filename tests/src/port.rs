//! A port that stays ours while nobody listens on it: before a broker's start, and between its death and the next.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// While it lives nobody gets the port but who names it: neither who listens on any free port, nor a connection. Whoever connects
/// to it meanwhile is refused.
#[derive(Debug)]
pub struct Port {
    _held: OwnedFd,
    address: SocketAddr,
}

impl Port {
    /// One that is free now.
    ///
    /// # Errors
    /// There is none.
    pub fn reserve() -> io::Result<Self> {
        Self::reserve_number(0)
    }

    /// This one.
    ///
    /// # Errors
    /// Somebody has it.
    pub fn reserve_number(number: u16) -> io::Result<Self> {
        let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Two sockets may share an address if both say this and the first does not listen.
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number))?;
        let address = SocketAddrV4::try_from(getsockname(&held)?)?.into();
        Ok(Self { _held: held, address })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn whoever_connects_is_refused_until_somebody_listens_and_somebody_may_again_and_again() {
        let port = Port::reserve().unwrap();
        for _ in 0..2 {
            let refused = TcpStream::connect(port.address()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            // As our broker's, Rust's listeners say that the address may be shared.
            let listener = TcpListener::bind(port.address()).unwrap();
            drop(TcpStream::connect(port.address()).unwrap());
            drop(listener.accept().unwrap());
        }
    }
}
