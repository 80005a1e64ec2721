//! placeholder until the command line lands
use cim_gateway::{app, config::Config};
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let config = Config::load(None, std::env::vars()).unwrap_or_else(|e| panic!("{e}"));
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    app::serve(config, stop).await.unwrap_or_else(|e| panic!("{e}"));
}
