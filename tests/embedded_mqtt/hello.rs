//! What a client says when it connects.

use crate::bytes::{packet, text, u32_property};

/// What a client says when it connects. `..hello(5, "id")` fills in the rest.
#[derive(Clone)]
pub struct Hello<'a> {
    pub version: u8,
    pub id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub login: Option<(&'a str, &'a [u8])>,
    pub will: Option<(&'a str, &'a str)>,
    /// MQTT 5.
    pub expiry_s: Option<u32>,
    /// MQTT 5.
    pub will_delay_s: Option<u32>,
}

pub fn hello(version: u8, id: &str) -> Hello<'_> {
    Hello {
        version,
        id,
        clean: true,
        keep_alive_s: 60,
        login: None,
        will: None,
        expiry_s: None,
        will_delay_s: None,
    }
}

/// A session that outlives its connection, in the words of either version.
pub fn kept(version: u8, id: &str) -> Hello<'_> {
    Hello { clean: false, expiry_s: Some(3600), ..hello(version, id) }
}

impl Hello<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let is_v5 = self.version == 5;
        let mut flags = u8::from(self.clean) << 1;
        let mut payload = text(self.id.as_bytes());
        if let Some((topic, body)) = self.will {
            flags |= 0b0000_1100;
            if is_v5 {
                payload.extend(u32_property(0x18, self.will_delay_s));
            }
            payload.extend(text(topic.as_bytes()));
            payload.extend(text(body.as_bytes()));
        }
        if let Some((username, password)) = self.login {
            flags |= 0b1100_0000;
            payload.extend(text(username.as_bytes()));
            payload.extend(text(password));
        }
        let mut body = text(b"MQTT");
        body.extend([self.version, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if is_v5 {
            body.extend(u32_property(0x11, self.expiry_s));
        }
        body.extend(payload);
        packet(0x10, &body)
    }
}
