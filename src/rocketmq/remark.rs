//! Reads the remark of an answer. The client keeps the code of a refused send but drops the remark, so a hook takes it from
//! the answer as it passes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use rocketmq_client_rust::ClientRpcHook;
use rocketmq_error::SharedError;
use rocketmq_protocol::protocol::remoting_command::RemotingCommand;
use rocketmq_transport::api::RPCHook;

tokio::task_local! {
    /// The remark of the last answer in this scope. It is found here because the client reads an answer in the task that asked.
    static REMARK: RefCell<Option<String>>;
}

/// Runs one request; gives its result, and the remark of the answer, if there was an answer with a remark.
pub(super) async fn with_remark<T>(request: impl Future<Output = T>) -> (T, Option<String>) {
    let scope = async { (request.await, REMARK.with(RefCell::take)) };
    REMARK.scope(RefCell::default(), scope).await
}

/// A hook of the client that keeps remarks and then calls the hook that signs.
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
        // Heartbeats and routes come outside of a scope; nobody needs their remarks.
        let _ = REMARK.try_with(|kept| kept.replace(remark));
        match &self.signing {
            Some(signing) => signing.do_after_response(from, request, response),
            None => Ok(()),
        }
    }
}
