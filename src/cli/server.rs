//! The gateway to talk to.

use cim_gateway::pb::message_service_client::MessageServiceClient;
use clap::Args;
use std::path::{Path, PathBuf};
use std::{env, error::Error, fs, str::FromStr, time::Duration};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

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
    /// PEM file of authorities to trust besides the public ones, for a gateway that speaks TLS
    #[arg(long, value_name = "FILE", env = "CIM_CA_FILE", hide_env = true)]
    ca_file: Option<PathBuf>,
    /// Name that the gateway's certificate is for, where it is not that of the URL
    #[arg(long, value_name = "NAME", env = "CIM_SERVER_NAME", hide_env = true)]
    server_name: Option<String>,
    /// PEM file of a certificate to show to a gateway that asks for one
    #[arg(long, value_name = "FILE", env = "CIM_CLIENT_CERTIFICATE", hide_env = true, requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", env = "CIM_CLIENT_KEY", hide_env = true, requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// File that holds the API key to show; the variable CIM_API_KEY may hold the key itself
    #[arg(long, value_name = "FILE", env = "CIM_API_KEY_FILE", hide_env = true)]
    api_key_file: Option<PathBuf>,
}

/// A gateway's messages, asked for with an API key if there is one.
pub(super) type Messages = MessageServiceClient<InterceptedService<Channel, ApiKey>>;

impl Server {
    /// Connects to its messages, or says in a sentence why not.
    pub(super) async fn connect(&self) -> Result<Messages, String> {
        let key = self.api_key()?;
        let channel = self.channel().await?;
        Ok(MessageServiceClient::with_interceptor(channel, key).max_decoding_message_size(LARGEST_MESSAGE))
    }

    /// Connects, or says in a sentence why not.
    pub(super) async fn channel(&self) -> Result<Channel, String> {
        let endpoint = match self.server.0.uri().scheme_str() {
            Some("https") => self.server.0.clone().tls_config(self.tls()?).map_err(|e| root_cause(&e).to_string())?,
            _ => self.server.0.clone(),
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        endpoint.connect().await.map_err(|e| format!("{} cannot be reached: {}", self.server.0.uri(), root_cause(&e)))
    }

    fn tls(&self) -> Result<ClientTlsConfig, String> {
        let mut tls = ClientTlsConfig::new().with_webpki_roots();
        if let Some(file) = &self.ca_file {
            tls = tls.ca_certificate(Certificate::from_pem(read(file)?));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }

    fn api_key(&self) -> Result<ApiKey, String> {
        let key = match &self.api_key_file {
            Some(file) => Some(String::from_utf8_lossy(&read(file)?).into_owned()),
            None => env::var("CIM_API_KEY").ok(),
        };
        let value = key.filter(|key| !key.trim().is_empty()).map(|key| format!("Bearer {}", key.trim()).parse());
        value.transpose().map(ApiKey).map_err(|_| "the API key cannot stand in a header".into())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}

/// What every call shows.
#[derive(Clone)]
pub(super) struct ApiKey(Option<MetadataValue<Ascii>>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// Where a gateway listens: a URL, or host and port alone.
#[derive(Debug, Clone)]
struct Address(Endpoint);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("needs a URL that starts with http:// or https://, such as http://127.0.0.1:50051".into());
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
        for (text, url) in [("127.0.0.1:50051", "http://127.0.0.1:50051/"), ("https://gateway:1", "https://gateway:1/")] {
            assert_eq!(text.parse::<Address>().unwrap().0.uri(), url);
        }
        for text in ["", "ftp://gateway", "http://", "a b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_one_sentence() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            server: Server,
        }
        let Line { server } = clap::Parser::parse_from(["send", "--server", "127.0.0.1:1"]);
        let sentence = server.connect().await.unwrap_err();
        assert!(sentence.starts_with("http://127.0.0.1:1/ cannot be reached: Connection refused"), "{sentence}");
    }
}
