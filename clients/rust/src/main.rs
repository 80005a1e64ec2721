//! A connector over gRPC: sends a message, follows the stream, and reports what it delivered.

mod connector;
mod messages;
mod report;

/// What `build.rs` generates. The generator sets its own style.
#[allow(clippy::all)]
mod pb {
    tonic::include_proto!("cim.v1");
}

use clap::{Args, Parser, ValueEnum};
use connector::Connector;
use std::env;
use std::error::Error;
use std::ops::ControlFlow;

/// A connector over gRPC.
#[derive(Parser)]
enum Command {
    /// Send one message
    Send {
        #[command(flatten)]
        common: Common,
        /// The customer's address on the channel
        #[arg(long, value_name = "ID", default_value = "4915112345678")]
        customer: String,
        /// Who says it
        #[arg(long, value_enum, default_value = "connector")]
        sender: Speaker,
    },
    /// Show what is accepted
    Follow {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        reading: Reading,
    },
    /// Report deliveries
    Answer {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Args)]
struct Common {
    /// The gateway's gRPC address
    #[arg(long, value_name = "URL", env = "CIM_SERVER", default_value = "http://127.0.0.1:50051")]
    server: String,
    /// Service identifier of the channel
    #[arg(long, value_name = "ID", default_value = "6655")]
    channel: String,
}

impl Common {
    fn connect(&self) -> Result<Connector, Box<dyn Error>> {
        Connector::new(&self.server, &env::var("CIM_API_KEY").unwrap_or_default(), &self.channel)
    }
}

#[derive(Args)]
struct Reading {
    /// Where to go on; else from now on
    #[arg(long, value_name = "CURSOR", default_value = "")]
    after: String,
    /// End after N messages; else never
    #[arg(long, value_name = "N", default_value = "0")]
    count: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Speaker {
    Connector,
    Bot,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Send { common, customer, sender } => send(&common, &customer, sender).await,
        Command::Follow { common, reading } => follow(&common, reading).await,
        Command::Answer { common, reading } => answer(&common, reading).await,
    }
}

async fn send(common: &Common, customer: &str, sender: Speaker) -> Result<(), Box<dyn Error>> {
    let sender = match sender {
        Speaker::Connector => pb::SenderType::Connector,
        Speaker::Bot => pb::SenderType::Bot,
    };
    let connector = common.connect()?;
    let answer = connector.send(messages::message(sender, &common.channel, customer)).await?;
    report::sent(&answer);
    Ok(())
}

async fn follow(common: &Common, reading: Reading) -> Result<(), Box<dyn Error>> {
    let connector = common.connect()?;
    let mut seen = 0;
    let read = async |accepted: pb::AcceptedMessage| {
        report::message(&accepted);
        seen += 1;
        Ok(until(seen == reading.count))
    };
    Ok(connector.follow(reading.after, pb::NotificationFilter::default(), read).await?)
}

/// Where a real connector hands the message to its channel, and reports what the channel says.
async fn answer(common: &Common, reading: Reading) -> Result<(), Box<dyn Error>> {
    let connector = common.connect()?;
    let for_customers = pb::NotificationFilter { audiences: vec![pb::Audience::Customer.into()], ..Default::default() };
    let mut answered = 0;
    let read = async |accepted: pb::AcceptedMessage| {
        let about = accepted.message.unwrap_or_default();
        // Notifications are events of the session: nobody waits to hear of their delivery.
        if about.body.as_ref().is_some_and(|body| matches!(body.kind, Some(pb::body::Kind::Notification(_)))) {
            return Ok(ControlFlow::Continue(()));
        }
        let notification = connector.send(messages::delivered(&about)).await?;
        report::answered(about.id(), &notification.message_id, &accepted.cursor);
        answered += 1;
        Ok(until(answered == reading.count))
    };
    Ok(connector.follow(reading.after, for_customers, read).await?)
}

fn until(done: bool) -> ControlFlow<()> {
    if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
