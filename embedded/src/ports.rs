//! Checks that ports on 127.0.0.1 are free, and finds a free group of ports for RocketMQ.
//!
//! RocketMQ binds its ports itself and reports a taken one badly, so each port is bound here first, for a moment. Another
//! program can still take it in between; if any free port was asked for, the start tries again.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use crate::EmbeddedError;

/// What listens on a port, and which flag changes the port.
#[derive(Clone, Copy)]
pub(crate) struct Listener {
    /// Its name in errors.
    pub(crate) what: &'static str,
    /// The flag of `roombridge dev` that sets its port.
    pub(crate) flag: &'static str,
}

/// MQTT over TCP.
pub(crate) const MQTT_TCP: Listener = Listener { what: "MQTT broker", flag: "--mqtt-port" };
/// MQTT over WebSocket.
pub(crate) const MQTT_WEBSOCKET: Listener =
    Listener { what: "MQTT broker's WebSocket", flag: "--websocket-port" };
const NAME_SERVER: Listener = Listener { what: "RocketMQ name server", flag: "--name-server-port" };
const BROKER: Listener = Listener { what: "RocketMQ broker", flag: "--broker-port" };
const BROKER_FAST: Listener =
    Listener { what: "RocketMQ broker's fast port (broker port - 2)", flag: "--broker-port" };
const BROKER_HIGH_AVAILABILITY: Listener =
    Listener { what: "RocketMQ broker's high-availability port (broker port + 1)", flag: "--broker-port" };

const FREE_GROUP_ATTEMPTS: u32 = 50;

/// Binds the port; for port 0 the system chooses a free one.
pub(crate) fn reserve(listener: Listener, port: u16) -> Result<TcpListener, EmbeddedError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| {
        let Listener { what, flag } = listener;
        if source.kind() == ErrorKind::AddrInUse {
            EmbeddedError::AddressInUse { what, port, flag }
        } else {
            EmbeddedError::Bind { what, port, flag, source }
        }
    })
}

fn reserved_port(listener: Listener, reserved: &TcpListener) -> Result<u16, EmbeddedError> {
    match reserved.local_addr() {
        Ok(address) => Ok(address.port()),
        Err(source) => Err(EmbeddedError::Bind { what: listener.what, port: 0, flag: listener.flag, source }),
    }
}

/// The ports of one RocketMQ, which were all free at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RocketMqPorts {
    /// Where clients ask for brokers.
    pub(crate) name_server: u16,
    /// Where clients send and read; the broker also listens two ports below.
    pub(crate) broker: u16,
    /// Where replicas would connect: one above the broker.
    pub(crate) high_availability: u16,
}

impl RocketMqPorts {
    /// Checks these ports; 0 = chooses free ones.
    pub(crate) fn choose(name_server: u16, broker: u16) -> Result<Self, EmbeddedError> {
        let name_server_reserved = reserve(NAME_SERVER, name_server)?;
        let group = if broker == 0 {
            BrokerGroup::free()?
        } else {
            BrokerGroup::with_main_listener(reserve(BROKER, broker)?)?
        };
        Ok(Self {
            name_server: reserved_port(NAME_SERVER, &name_server_reserved)?,
            broker: group.port,
            high_availability: group.port + 1,
        })
    }
}

/// The broker's three listeners, held until the whole group is known to be free.
struct BrokerGroup {
    port: u16,
    _listeners: [TcpListener; 3],
}

impl BrokerGroup {
    fn with_main_listener(main: TcpListener) -> Result<Self, EmbeddedError> {
        let port = reserved_port(BROKER, &main)?;
        if !(3..u16::MAX).contains(&port) {
            return Err(EmbeddedError::UnusableBrokerPort { port });
        }
        let fast = reserve(BROKER_FAST, port - 2)?;
        let high_availability = reserve(BROKER_HIGH_AVAILABILITY, port + 1)?;
        Ok(Self { port, _listeners: [main, fast, high_availability] })
    }

    fn free() -> Result<Self, EmbeddedError> {
        for _ in 0..FREE_GROUP_ATTEMPTS {
            if let Ok(group) = Self::with_main_listener(reserve(BROKER, 0)?) {
                return Ok(group);
            }
        }
        Err(EmbeddedError::NoFreePorts { attempts: FREE_GROUP_ATTEMPTS })
    }
}
