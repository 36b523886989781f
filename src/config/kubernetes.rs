//! Tells the variables that Kubernetes sets in each pod for a Service from those that an operator sets for us.
//!
//! A Service named `roombridge` (or `roombridge-...`) gives `ROOMBRIDGE_PORT=tcp://10.96.0.7:9464` and its kin. Name and value must
//! both look so, because a name alone may be a mistyped key of ours.
//! Source: kubernetes.io, "Service", environment variables, and `pkg/kubelet/envvars` of Kubernetes 1.34.

use std::net::{IpAddr, SocketAddr};

/// What Kubernetes puts into a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Address,
    Port,
    Url,
    Protocol,
}

pub(super) fn is_of_kubernetes(name: &str, value: &str) -> bool {
    form_of(name).is_some_and(|form| match form {
        Form::Address => value.parse::<IpAddr>().is_ok(),
        Form::Port => value.parse::<u16>().is_ok(),
        Form::Url => value.split_once("://").is_some_and(|(protocol, address)| {
            is_protocol(protocol) && address.parse::<SocketAddr>().is_ok()
        }),
        Form::Protocol => is_protocol(value),
    })
}

/// What a variable of that name holds, if it has a name that Kubernetes makes. No key of ours may have one.
fn form_of(name: &str) -> Option<Form> {
    if name.ends_with("_SERVICE_HOST") {
        return Some(Form::Address);
    }
    // With the name of the port behind it, if the Service gives it one.
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return Some(Form::Port);
    }
    if name.ends_with("_PORT") && !ends_with_port_and_protocol(name.trim_end_matches("_PORT")) {
        return Some(Form::Url);
    }
    let leaf = [("_PROTO", Form::Protocol), ("_PORT", Form::Port), ("_ADDR", Form::Address), ("", Form::Url)];
    leaf.into_iter()
        .find(|(leaf, _)| name.strip_suffix(leaf).is_some_and(ends_with_port_and_protocol))
        .map(|(_, form)| form)
}

/// `..._PORT_9464_TCP`
fn ends_with_port_and_protocol(name: &str) -> bool {
    let Some((service, port)) = name.rsplit_once("_PORT_") else { return false };
    let is_port =
        |(port, protocol): (&str, &str)| port.parse::<u16>().is_ok() && is_protocol(&protocol.to_lowercase());
    !service.is_empty() && port.split_once('_').is_some_and(is_port)
}

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp" | "sctp")
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    /// Those of a Service `roombridge` with the port 9464 (`metrics`), of IPv4 and of IPv6, and of a Service `roombridge-class`.
    const SET: &[(&str, &str)] = &[
        ("ROOMBRIDGE_SERVICE_HOST", "10.96.0.7"),
        ("ROOMBRIDGE_SERVICE_PORT", "9464"),
        ("ROOMBRIDGE_SERVICE_PORT_METRICS", "9464"),
        ("ROOMBRIDGE_PORT", "tcp://10.96.0.7:9464"),
        ("ROOMBRIDGE_PORT_9464_TCP", "tcp://10.96.0.7:9464"),
        ("ROOMBRIDGE_PORT_9464_TCP_PROTO", "tcp"),
        ("ROOMBRIDGE_PORT_9464_TCP_PORT", "9464"),
        ("ROOMBRIDGE_PORT_9464_TCP_ADDR", "10.96.0.7"),
        ("ROOMBRIDGE_PORT_53_UDP", "udp://[fd00::7]:53"),
        ("ROOMBRIDGE_PORT_53_UDP_ADDR", "fd00::7"),
        ("ROOMBRIDGE_CLASS_SERVICE_HOST", "10.96.0.8"),
        ("ROOMBRIDGE_CLASS_PORT", "tcp://10.96.0.8:8080"),
    ];

    #[test]
    fn what_kubernetes_sets_is_told_from_typing_errors_by_name_and_value() {
        for (name, value) in SET {
            assert!(is_of_kubernetes(name, value), "{name}={value}");
            assert!(!is_of_kubernetes(name, "mqtt://broker:1883"), "{name}");
        }
        for (name, value) in [
            ("ROOMBRIDGE_PORT", "1883"),
            ("ROOMBRIDGE_MQTT_PORT", "1883"),
            ("ROOMBRIDGE_MQTT_HOST", "10.96.0.7"),
            ("ROOMBRIDGE_PORT_TCP", "tcp://10.96.0.7:1"),
            ("ROOMBRIDGE_SERVICE_PORT", "tcp://10.96.0.7:1"),
            ("ROOMBRIDGE_PORT_9464_TCP_ADDR", "roombridge"),
        ] {
            assert!(!is_of_kubernetes(name, value), "{name}={value}");
        }
    }

    #[test]
    fn no_key_has_a_name_that_kubernetes_makes() {
        for key in KEYS {
            assert_eq!(form_of(&key.variable()), None, "{}", key.path);
        }
    }
}
