//! [`Engine`]: a server of the test's own, which hosts reach by the network.

pub(crate) use redis::Redis;

/// What every engine can be made to suffer.
pub(crate) trait Engine {
    /// What the programs that use it are configured with.
    fn settings(&self) -> Vec<(&'static str, String)>;
    /// Ends it as its administrator would.
    fn stop(&mut self);
    fn kill(&mut self);
    fn start(&mut self);
    fn freeze(&self);
    fn resume(&self);
}

mod redis {
    use std::net::TcpListener;

    use super::Engine;
    use crate::support::redis::RedisServer;

    pub(crate) struct Redis {
        server: RedisServer,
        url: String,
    }

    impl Redis {
        pub(crate) fn start(address: &str) -> Option<Self> {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let port_text = port.to_string();
            let open = ["--bind", address, "--port", &port_text];
            let settings = [&open[..], &["--protected-mode", "no"]].concat();
            let server = RedisServer::start(&settings)?;
            let url = format!("redis://{address}:{port}/0");
            Some(Redis { server, url })
        }
    }

    impl Engine for Redis {
        fn settings(&self) -> Vec<(&'static str, String)> {
            vec![
                ("storageType", "redis".to_owned()),
                ("database", self.url.clone()),
            ]
        }

        fn stop(&mut self) {
            // It answers nothing, and ends.
            let _ = self.server.ask(&["SHUTDOWN"]);
            self.server.kill();
        }

        fn kill(&mut self) {
            self.server.kill();
        }

        fn start(&mut self) {
            self.server.run();
        }

        fn freeze(&self) {
            self.server.freeze();
        }

        fn resume(&self) {
            self.server.resume();
        }
    }
}
