//! Whether RocketMQ is there. Whoever answers is, whatever the answer says.

use crate::pipeline::ports::{ReadError, Reader};

/// The topic to ask for if the configuration names none literally; it need not exist.
pub(crate) const ALWAYS_ASKABLE: &str = "TBW102";

/// Sends a small request to a broker of the topic. `Err`: nobody answered. A refusal is an answer, for example to a user who may only
/// publish.
pub(crate) async fn is_there(reader: &dyn Reader, topic: &str) -> Result<(), ReadError> {
    match look_at(reader, topic).await {
        Err(error) if !error.kind.is_an_answer() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A topic without a queue that can be read tells nothing of its brokers; then the name server's answer counts.
async fn look_at(reader: &dyn Reader, topic: &str) -> Result<(), ReadError> {
    let queues = reader.queues(topic).await?;
    if let Some(queue) = queues.first() {
        reader.offsets(topic, queue).await?;
    }
    Ok(())
}
