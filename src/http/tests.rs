//! The listener as an operator's tools see it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

async fn start() -> Running {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "http.listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new(&[]).unwrap());
    let readiness = Arc::new(Readiness::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, metrics.clone(), readiness.clone(), stopped));
    Running { address, metrics, readiness, stop, server }
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path).await
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: roombridge\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn health_metrics_and_the_page_answer_from_the_start() {
    let running = start().await;
    let health = get(running.address, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok"), "{health}");

    running.metrics.received(3);
    let metrics = get(running.address, "/metrics").await;
    assert!(metrics.contains(METRICS_TYPE), "{metrics}");
    assert!(metrics.contains("roombridge_received_total{direction=\"uplink\"} 1\n"), "{metrics}");

    assert!(get(running.address, "/").await.contains("href=\"/readyz\""));
    assert!(get(running.address, "/absent").await.starts_with("HTTP/1.1 404"));
}

/// RFC 9110, 9.3.7: it is about the server, and no path of it is missing.
#[tokio::test]
async fn options_of_the_server_names_its_methods() {
    let running = start().await;
    let answer = ask(running.address, "OPTIONS", "*").await;
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("allow: GET,HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn ready_is_200_only_while_nothing_is_missing() {
    let running = start().await;
    let answer = get(running.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("RocketMQ is not reachable since "), "{answer}");

    running.readiness.set_mqtt_connected(true);
    running.readiness.set_mqtt_subscribed(true);
    running.readiness.set_rocketmq_reachable(true);
    let answer = get(running.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "ready": true, "degraded": false, "mqtt": {"connected": true, "subscribed": true},
        "rocketmq": {"reachable": true}, "spool": {"accepts": false}, "missing": [],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn ready_is_200_while_the_spool_stands_in_for_rocketmq() {
    let running = start().await;
    running.readiness.set_mqtt_connected(true);
    running.readiness.set_mqtt_subscribed(true);
    running.readiness.set_spool_accepts(true);
    let answer = get(running.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\"degraded\":true") && answer.contains("\"spool\":{\"accepts\":true}"),
        "{answer}"
    );

    running.readiness.set_spool_accepts(false);
    let answer = get(running.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the spool takes nothing in since "), "{answer}");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key() {
    let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "http.listen").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address, "http.listen").await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("http.listen"), "{error}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_does_not_hold_the_stop() {
    let running = start().await;
    let mut stuck = TcpStream::connect(running.address).await.unwrap();
    stuck.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    // An answer to another client shows that the stuck one, which came first, has been accepted.
    get(running.address, "/healthz").await;
    running.stop.send(()).unwrap();
    timeout(DEADLINE, running.server).await.unwrap().unwrap().unwrap();
}
