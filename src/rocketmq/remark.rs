//! The remark of an answer: the client keeps the code of a refused send and drops the words beside it, so they are taken
//! from the answer itself while it passes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use rocketmq_client_rust::ClientRpcHook;
use rocketmq_error::SharedError;
use rocketmq_protocol::protocol::remoting_command::RemotingCommand;
use rocketmq_transport::api::RPCHook;

tokio::task_local! {
    /// Of the last answer that the request of this scope got. The client reads answers in the task that asked.
    static REMARK: RefCell<Option<String>>;
}

/// Runs one request; gives back what it gives, and the remark of the answer, if there was an answer with one.
pub(super) async fn with_remark<T>(request: impl Future<Output = T>) -> (T, Option<String>) {
    let scope = async { (request.await, REMARK.with(RefCell::take)) };
    REMARK.scope(RefCell::default(), scope).await
}

/// A hook of the client that listens, in front of the one that signs.
pub(super) fn listening(signing: Option<Arc<ClientRpcHook>>) -> Arc<ClientRpcHook> {
    Arc::new(Listening { signing })
}

struct Listening {
    signing: Option<Arc<ClientRpcHook>>,
}

impl RPCHook for Listening {
    fn do_before_request(&self, to: SocketAddr, request: &mut RemotingCommand) -> Result<(), SharedError> {
        match &self.signing {
            Some(signing) => signing.do_before_request(to, request),
            None => Ok(()),
        }
    }

    fn do_after_response(
        &self,
        from: SocketAddr,
        request: &RemotingCommand,
        response: &mut RemotingCommand,
    ) -> Result<(), SharedError> {
        let remark = response.remark().map(ToString::to_string);
        // Outside of a scope nobody asks for it: heartbeats, routes.
        let _ = REMARK.try_with(|kept| kept.replace(remark));
        match &self.signing {
            Some(signing) => signing.do_after_response(from, request, response),
            None => Ok(()),
        }
    }
}
