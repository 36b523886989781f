//! A class in `roombridge dev` that checks everybody.

use super::dev::{Dev, http};
use super::mqtt_client::Target;

pub struct Class {
    pub dev: Dev,
    /// That everybody gets at the login.
    pub token: String,
}

impl Class {
    #[track_caller]
    pub fn start() -> Self {
        let dev = Dev::start_with(&["--auth", "required"]);
        let login = format!("http://{}/login", dev.address("login"));
        let (status, token) = http("GET", &login, &[], None);
        assert_eq!(status, 200, "{token}");
        Self { dev, token }
    }

    pub fn with(&self, username: &str, password: &str) -> Target {
        Target { port: self.dev.mqtt_port(), credentials: Some((username.to_owned(), password.to_owned())) }
    }

    pub fn login(&self) -> Target {
        self.login_with(&format!("RW|{}", self.token))
    }

    pub fn login_with(&self, password: &str) -> Target {
        self.with("Token|dev|dev", password)
    }
}
