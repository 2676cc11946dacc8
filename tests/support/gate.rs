//! A gate that steps wait at until the test opens it: no sleeping, whatever the machine's load.

use std::net::TcpListener;

/// A closed gate. Steps that `RUN` its [`Gate::wait`] wait until it is dropped.
pub struct Gate {
    listener: TcpListener,
}

impl Gate {
    pub fn new() -> Gate {
        // Connections wait in the backlog: whoever reads from one waits as long as this lives.
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        Gate { listener }
    }

    /// The command, for a step with the host's network, that waits.
    pub fn wait(&self) -> String {
        let port = self.listener.local_addr().expect("an address").port();
        format!("nc 127.0.0.1 {port} || true")
    }
}
