//! The gateway to talk to.

use cim_gateway::pb::message_service_client::MessageServiceClient;
use clap::Args;
use std::{error::Error, str::FromStr, time::Duration};
use tonic::transport::{Channel, Endpoint};

/// Longest to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing comes for this long is asked whether it is alive, and given as long to answer.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Above anything that a gateway may accept, with all that it fills in.
const LARGEST_MESSAGE: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Server {
    /// The gateway's gRPC address
    #[arg(long, visible_alias = "to", value_name = "URL", env = "CIM_SERVER", default_value = "http://127.0.0.1:50051")]
    server: Address,
}

impl Server {
    /// Connects to its messages, or says in a sentence why not.
    pub(super) async fn connect(&self) -> Result<MessageServiceClient<Channel>, String> {
        let channel = self.channel().await?;
        Ok(MessageServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE))
    }

    /// Connects, or says in a sentence why not.
    pub(super) async fn channel(&self) -> Result<Channel, String> {
        let endpoint = (self.server.0.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        endpoint.connect().await.map_err(|e| format!("{} cannot be reached: {}", self.server.0.uri(), root_cause(&e)))
    }
}

/// Where a gateway listens: a URL, or host and port alone.
#[derive(Debug, Clone)]
struct Address(Endpoint);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        if !url.starts_with("http://") {
            return Err("needs a URL that starts with http://, such as http://127.0.0.1:50051".into());
        }
        Endpoint::from_shared(url).map(Self).map_err(|e| root_cause(&e).to_string())
    }
}

/// The error under all others: what wraps it only says that something failed.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, root_cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_or_host_and_port_alone() {
        for (text, url) in [("127.0.0.1:50051", "http://127.0.0.1:50051/"), ("http://gateway:1", "http://gateway:1/")] {
            assert_eq!(text.parse::<Address>().unwrap().0.uri(), url);
        }
        for text in ["", "https://gateway", "http://", "a b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_one_sentence() {
        let server = Server { server: "127.0.0.1:1".parse().unwrap() };
        let sentence = server.connect().await.unwrap_err();
        assert!(sentence.starts_with("http://127.0.0.1:1/ cannot be reached: Connection refused"), "{sentence}");
    }
}
