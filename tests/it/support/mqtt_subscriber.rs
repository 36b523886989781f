//! An MQTT 5 subscriber that keeps what it received. It acknowledges by itself and reconnects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};

use super::mqtt_client::Target;
use super::ports::wait_until;

pub struct Subscriber {
    client_id: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Publish>>,
    subscribed: AtomicBool,
    stop: AtomicBool,
}

impl Subscriber {
    /// A session that ends with the connection. Returns after the SUBACK.
    #[track_caller]
    pub fn start(target: impl Into<Target>, client_id: &str, filter: &str) -> Subscriber {
        let mut options = target.into().options(client_id);
        options.set_clean_start(true);
        Subscriber::launch(options, client_id, filter)
    }

    /// A session that the broker keeps for an hour, and continues if it has one. Returns after the SUBACK.
    #[track_caller]
    pub fn start_persistent(target: impl Into<Target>, client_id: &str, filter: &str) -> Subscriber {
        let mut options = target.into().options(client_id);
        options.set_clean_start(false).set_session_expiry_interval(Some(3600));
        Subscriber::launch(options, client_id, filter)
    }

    #[track_caller]
    fn launch(options: MqttOptions, client_id: &str, filter: &str) -> Subscriber {
        let shared = Arc::new(Shared::default());
        let (state, filter) = (shared.clone(), filter.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(run(options, filter, state));
        });
        let subscriber = Subscriber { client_id: client_id.to_owned(), shared, thread: Some(thread) };
        wait_until(&format!("{client_id} is subscribed"), Duration::from_secs(10), || {
            subscriber.shared.subscribed.load(Ordering::Relaxed)
        });
        subscriber
    }

    /// In the order of arrival. Topic and payload are bytes.
    pub fn received(&self) -> Vec<Publish> {
        self.shared.received.lock().expect("nobody panics while holding the list").clone()
    }

    #[track_caller]
    pub fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Publish> {
        wait_until(&format!("{} received {count} messages", self.client_id), deadline, || {
            self.shared.received.lock().expect("nobody panics while holding the list").len() >= count
        });
        self.received()
    }

    /// Disconnects in order; a persistent session stays at the broker.
    pub fn stop(self) {}
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn run(options: MqttOptions, filter: String, shared: Arc<Shared>) {
    let (client, mut events) = AsyncClient::new(options, 1000);
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    // How many ticks a disconnect may take; the broker may be away or paused.
    let mut patience = 200;
    loop {
        // A started poll is never cancelled: it may hold half a written packet.
        let mut poll = std::pin::pin!(events.poll());
        let event = loop {
            tokio::select! {
                event = &mut poll => break event,
                _ = tick.tick() => if shared.stop.load(Ordering::Relaxed) {
                    if patience == 200 {
                        let _ = client.try_disconnect();
                    }
                    patience -= 1;
                    if patience == 0 {
                        return;
                    }
                }
            }
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe(&filter, QoS::AtLeastOnce).expect("the channel has room");
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => shared.subscribed.store(true, Ordering::Relaxed),
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                shared.received.lock().expect("nobody panics while holding the list").push(publish);
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(_) if shared.stop.load(Ordering::Relaxed) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
