//! The other yardstick: how fast RocketMQ takes the bridge's batches from the bridge's own producer, with nothing before
//! it. Runs as a child process of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roombridge::testing::binding::{BindingSettings, RuleSet};
use roombridge::testing::config::{Config, ProcessEnvironment};
use roombridge::testing::model::{
    Arrival, Envelope, FailureKind, MessageIds, MqttProperties, Qos, QueueName, Sent, SessionStamp,
};
use roombridge::testing::pipeline::ports::{Batch, OutgoingMessage, Sink};
use roombridge::testing::rocketmq::{Connector, Producer, RocketMqReader};

use super::{Failure, broken, flood};

/// Sends `count` messages in batches of `batch_messages`, one batch in flight for each queue; returns the seconds.
pub fn run(config_file: &str, batch_messages: u64, count: u64) -> Result<f64, Failure> {
    let config = Config::load(config_file.as_ref(), &ProcessEnvironment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let connector = Connector::new(&config.rocketmq);
        let reader = Arc::new(RocketMqReader::new(&connector));
        let producer: Arc<dyn Sink> = Arc::new(Producer::new(config.rocketmq.clone(), &connector, reader));
        let batches = batches(&config, &*producer, batch_messages).await?;
        let share = count / (batches.len() as u64 * batch_messages);
        // One of each before the clock starts: the client connects with the first.
        send_all(&producer, &batches, 1).await?;
        let started = Instant::now();
        send_all(&producer, &batches, share).await?;
        let sent = share * batches.len() as u64 * batch_messages;
        Ok(started.elapsed().as_secs_f64() * count as f64 / sent as f64)
    })
}

async fn send_all(producer: &Arc<dyn Sink>, batches: &[Arc<Batch>], times: u64) -> Result<(), Failure> {
    let mut queues = tokio::task::JoinSet::new();
    for batch in batches {
        let (producer, batch) = (producer.clone(), batch.clone());
        queues.spawn(async move {
            let mut sent = 0;
            while sent < times {
                let answers = producer.send(batch.clone()).await;
                // A RocketMQ that asks to be given more time on a busy machine, or takes it, is slow and not broken.
                let is_slow = |kind| matches!(kind, FailureKind::Busy | FailureKind::Timeout);
                if answers.iter().filter_map(Sent::failure).any(is_slow) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                sent += 1;
                if !answers.iter().all(|answer| matches!(answer, Sent::Stored)) {
                    return Err(broken(format!("RocketMQ did not store a batch: {:?}", answers[0])));
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = queues.join_next().await {
        ended??;
    }
    Ok(())
}

/// One for each queue, of messages as the bridge binds them.
async fn batches(config: &Config, producer: &dyn Sink, messages: u64) -> Result<Vec<Arc<Batch>>, Failure> {
    let settings = BindingSettings {
        origin_key: b"a key of no importance".to_vec(),
        max_message_bytes: config.rocketmq.max_message_bytes,
    };
    let rules = RuleSet::compile(&config.bindings, settings)?;
    let topic = rules.literal_topics().pop().ok_or_else(|| broken("the binding names no topic"))?;
    let queues = producer
        .queues(&topic)
        .await
        .map_err(|error| broken(format!("no queues of topic {topic}: {error}")))?;
    let batch = |queue: QueueName| -> Result<Arc<Batch>, Failure> {
        Ok(Arc::new(Batch {
            topic: topic.as_str().into(),
            queue,
            messages: (0..messages).map(|number| outgoing(&rules, number)).collect::<Result<_, _>>()?,
        }))
    };
    queues.into_iter().map(batch).collect()
}

fn outgoing(rules: &RuleSet, number: u64) -> Result<OutgoingMessage, Failure> {
    let mut ids = MessageIds::new(0x5a5a_5a5a_5a5a_5a5a);
    let envelope = Envelope {
        id: ids.next_id(),
        maybe_copy_of: None,
        arrival: Arrival {
            session: SessionStamp::new("bridge#0123456789abcdef"),
            connection: 1,
            sequence: number,
            generation: 1,
            wall_ms: 1_700_000_000_000,
            monotonic: Duration::ZERO,
        },
        topic: flood::ORDINARY.topic(number),
        payload: flood::ORDINARY.payload("rate", number).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        duplicate: false,
        packet_id: 1,
        properties: MqttProperties::default(),
    };
    let bound = rules.bind(&envelope);
    bound.map(|bound| bound.message).map_err(|unbound| broken(format!("a message is not bound: {unbound:?}")))
}
