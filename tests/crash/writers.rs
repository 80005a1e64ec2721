//! Clients that send, and go on after every restart where they were.

use crate::chance::Chance;
use crate::expected::{Book, Receipt};
use crate::support::client::Client;
use crate::support::messages::{Differs as _, said, says};
use cim_gateway::pb::send_messages_response::Result::Accepted;
use cim_gateway::pb::{AcceptedMessage, CimMessage, SendMessageResponse};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_types::StatusExt as _;

/// Messages of one session of one writer; then another begins.
const PER_SESSION: usize = 40;

/// Most messages of a stream that wait for their answer.
const UNANSWERED: usize = 32;

/// How a writer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A call for each message; some are sent again.
    Calls,
    /// One stream.
    Stream,
}

/// A client that sends its messages one after the other: each when the one before is acknowledged, or after it on the same stream.
#[derive(Debug)]
pub struct Writer {
    name: String,
    seed: u64,
    by: By,
    chance: Chance,
    book: Book,
    /// What was acknowledged: message by message from the first.
    receipts: Vec<Receipt>,
    /// How many were sent at all.
    sent: usize,
    /// How many repeats were told as repeats.
    pub repeats: usize,
    /// How many had been stored although nobody was told.
    pub settled: usize,
}

impl Writer {
    pub fn new(number: usize, by: By, seed: u64, book: &Book) -> Self {
        let name = format!("{by:?}-{number}").to_lowercase();
        let chance = Chance::of(seed, 1000 + number as u64);
        Self { name, seed, by, chance, book: book.clone(), receipts: Vec::new(), sent: 0, repeats: 0, settled: 0 }
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}-{:x}", self.name, self.seed)
    }

    /// A message: the same whenever it is made.
    fn message(&self, number: usize) -> CimMessage {
        let id = self.id(number);
        let mut chance = Chance::of(self.seed, id.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte)));
        let length = if chance.once_in(100) { 150_000 } else { chance.below(1_500) };
        let filler = format!("{:016x}", chance.next()).repeat(length / 16);
        let group = number / PER_SESSION;
        // Every other session is one that all writers share.
        let customer = if group.is_multiple_of(2) { format!("{}-{group}", self.name) } else { format!("shared-{group}") };
        says(CHANNELS[group % CHANNELS.len()], &customer, &format!("{id} {filler}"))
            .with_id(&id)
            .at(1_700_000_000 + number as i64)
    }

    /// What was acknowledged, with the ids.
    pub fn receipts(&self) -> impl Iterator<Item = (String, Receipt)> {
        self.receipts.iter().enumerate().map(|(number, receipt)| (self.id(number), receipt.clone()))
    }

    /// Sends until the gateway is gone or refuses for want of room; returns why.
    pub async fn write(&mut self, client: Client) -> Status {
        match self.by {
            By::Calls => self.write_by_calls(&client).await,
            By::Stream => self.write_by_stream(&client).await,
        }
    }

    async fn write_by_calls(&mut self, client: &Client) -> Status {
        // What was the last to be acknowledged is told as a repeat, first of all.
        if let Err(lost) = self.repeat(client, self.receipts.len().saturating_sub(1)).await {
            return lost;
        }
        loop {
            if self.chance.once_in(8) {
                let number = self.chance.below(self.receipts.len());
                if let Err(lost) = self.repeat(client, number).await {
                    return lost;
                }
            }
            let number = self.receipts.len();
            let is_new = number == self.sent;
            self.sent = number + 1;
            match client.try_send(self.message(number)).await {
                Ok(accepted) => self.acknowledged(&accepted, is_new),
                Err(status) => return lost(status),
            }
        }
    }

    /// Sends an acknowledged message again.
    async fn repeat(&mut self, client: &Client, number: usize) -> Result<(), Status> {
        let Some(receipt) = self.receipts.get(number) else { return Ok(()) };
        let response = client.try_send(self.message(number)).await.map_err(lost)?;
        assert!(
            response.duplicate,
            "{} is acknowledged, {receipt:?}, and its repeat is not known: {response:?}",
            self.id(number)
        );
        assert_eq!(Receipt::of(&response), *receipt, "{}", self.id(number));
        self.repeats += 1;
        Ok(())
    }

    fn acknowledged(&mut self, response: &SendMessageResponse, is_new: bool) {
        let receipt = Receipt::of(response);
        let id = self.id(self.receipts.len());
        assert_eq!((response.message_id.as_str(), response.submitted_id.as_str()), (id.as_str(), ""));
        assert!(!(is_new && response.duplicate), "{id} is sent for the first time");
        assert!(self.receipts.last().is_none_or(|before| before.position < receipt.position), "{id} stands before its turn");
        self.settled += usize::from(response.duplicate);
        self.book.note(receipt.position, &id);
        self.receipts.push(receipt);
    }

    async fn write_by_stream(&mut self, client: &Client) -> Status {
        let (requests, sending) = mpsc::channel(UNANSWERED);
        let mut answers = match client.sending(ReceiverStream::new(sending)).await {
            Ok(answers) => answers,
            Err(status) => return lost(status),
        };
        let begun = self.receipts.len();
        let known = self.sent;
        let mut next = begun;
        loop {
            while next < self.receipts.len() + UNANSWERED && requests.try_send(self.message(next)).is_ok() {
                next += 1;
                self.sent = self.sent.max(next);
            }
            let answer = match crate::support::soon("an answer on a stream", answers.message()).await {
                Ok(Some(answer)) => answer,
                Ok(None) => panic!("a stream to send by ends with an error only, as long as there is more to send"),
                Err(status) => return lost(status),
            };
            assert_eq!(answer.request_number, (self.receipts.len() - begun + 1) as u64);
            match answer.result {
                Some(Accepted(accepted)) => self.acknowledged(&accepted, self.receipts.len() >= known),
                other => panic!("{}: {other:?}", self.id(self.receipts.len())),
            }
        }
    }

    /// Checks that the last message that was acknowledged is told as a repeat of itself.
    pub async fn check_repeats(&self, client: &Client) {
        if let Some((number, receipt)) = self.receipts.iter().enumerate().next_back() {
            let response = client.send(self.message(number)).await;
            assert!(response.duplicate && Receipt::of(&response) == *receipt, "{}: {response:?}", self.id(number));
        }
    }

    /// Checks what is stored of this writer: all in its order, whole, without a gap, and no more than was sent.
    pub fn check(&self, stored: &[&AcceptedMessage]) {
        assert!(stored.len() >= self.receipts.len() && stored.len() <= self.sent, "{}: {} are stored", self.name, stored.len());
        for (number, message) in stored.iter().enumerate() {
            let expected = self.message(number);
            assert_eq!(crate::expected::id_of(message), self.id(number), "in the order of the client");
            let text = expected.body.as_ref().and_then(|body| body.markdown_text.clone()).unwrap_or_default();
            assert!(said(message) == text, "{} is not whole", self.id(number));
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The channels that messages are sent on.
pub const CHANNELS: [&str; 3] = ["shop", "desk", "line"];

/// Stored messages by the names of the writers that sent them; those of the gateway's own under something else.
pub fn by_writer(stored: &[AcceptedMessage]) -> HashMap<&str, Vec<&AcceptedMessage>> {
    let mut by_writer: HashMap<_, Vec<_>> = HashMap::new();
    for message in stored {
        let name = crate::expected::id_of(message).rsplitn(3, '-').nth(2).unwrap_or_default();
        by_writer.entry(name).or_default().push(message);
    }
    by_writer
}

/// A status that says that the gateway is gone, goes, or has no room. Any other is a failure of the test.
pub fn lost(status: Status) -> Status {
    match status.get_details_error_info().map(|info| info.reason) {
        // The connection broke.
        None => status,
        Some(reason) if ["SHUTTING_DOWN", "STORE_UNAVAILABLE", "STORE_FULL"].contains(&reason.as_str()) => status,
        Some(_) => panic!("refused: {status:?}"),
    }
}

/// The reason in a status of the gateway's own.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}
