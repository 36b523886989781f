use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use super::*;

fn publisher(port: u16, messages: mpsc::Receiver<Publishing>) -> DownlinkPublisher {
    let text =
        format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[rocketmq]\nname_servers = [\"127.0.0.1:9\"]\n");
    let config = crate::config::Config::from_toml("test", &text, &BTreeMap::new()).unwrap();
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    DownlinkPublisher::new(&config.mqtt, messages, mpsc::unbounded_channel().0, metrics).unwrap()
}

async fn ends_soon(publisher: DownlinkPublisher) -> bool {
    let running = publisher.run(CancellationToken::new());
    tokio::time::timeout(Duration::from_secs(3), running).await.is_ok()
}

#[tokio::test]
async fn nothing_in_flight_does_not_wait_for_a_broker_that_is_away_or_silent() {
    // Given nobody at the port, and then somebody who never answers
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for port in [nobody, port] {
        let (sender, messages) = mpsc::channel(1);
        let publisher = publisher(port, messages);
        // When nothing more can come, then it ends
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(sender);
        });
        assert!(ends_soon(publisher).await, "port {port}");
    }
}
