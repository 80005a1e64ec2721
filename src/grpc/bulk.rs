//! `SendMessages`: the messages of one stream are accepted in its order and answered in its order, many of them on their way at
//! once.

use super::messages::Messages;
use super::status::{in_our_words, refusal, status};
use crate::auth::Caller;
use crate::error::{Error, Kind};
use crate::inbox::Accepted;
use crate::pb;
use crate::pb::send_messages_response::Result as Answer;
use futures::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use tonic::Status;

/// The answers to a stream of requests.
///
/// A message is staged when the one before it is: that makes the order. It becomes durable together with those around it; up to
/// [`super::Settings::max_in_flight`] are on their way before the first is answered. What is wrong with the gateway, or the caller's key, ends the
/// stream, after the answers to all that came before: nothing is accepted after that, so that a client that repeats from there on
/// keeps its order.
pub(super) fn answers(
    messages: Messages,
    caller: Caller,
    requests: impl Stream<Item = Result<pb::SendMessagesRequest, Status>> + Send + 'static,
) -> BoxStream<'static, Result<pb::SendMessagesResponse, Status>> {
    let most = messages.settings.max_in_flight;
    let numbered = (Arc::new(messages), caller, requests.boxed(), 1);
    let staged = stream::try_unfold(numbered, async |(messages, caller, mut requests, number)| {
        let request = tokio::select! {
            biased;
            () = messages.shutdown.cancelled() => return Err(status(&Error::ShuttingDown)),
            error = caller.revoked() => return Err(status(&error)),
            request = requests.try_next() => request.map_err(|error| in_our_words(error, messages.inbox.limits().message_bytes))?,
        };
        let Some(request) = request else { return Ok(None) };
        let staged = match messages.stage(&caller, request.message).await {
            Err(error) if concerns_all(&error) => return Err(status(&error)),
            staged => staged,
        };
        let in_flight = {
            let messages = messages.clone();
            async move {
                let accepted = match staged {
                    Ok(pending) => pending.durable().await,
                    Err(refused) => Err(refused),
                };
                let answer = answer(&messages, accepted)?;
                Ok(pb::SendMessagesResponse { request_number: number, result: Some(answer) })
            }
        };
        Ok(Some((in_flight, (messages, caller, requests, number + 1))))
    });
    let in_flight = staged.map(async |staged| staged?.await);
    in_flight.buffered(most).boxed()
}

fn answer(messages: &Messages, accepted: Result<Accepted, Error>) -> Result<Answer, Status> {
    match accepted {
        Ok(accepted) => Ok(Answer::Accepted(messages.response(&accepted))),
        Err(error) if concerns_all(&error) => Err(status(&error)),
        Err(error) => Ok(Answer::Refused(refusal(&error))),
    }
}

/// True for what is no matter of one message: the gateway or the caller's key is the trouble.
const fn concerns_all(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Internal | Kind::Unauthenticated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{self, Feed};
    use crate::grpc::Settings;
    use crate::inbox::{Inbox, Reuse};
    use crate::samples::{self, LIMITS};
    use crate::store::double::Double;
    use crate::store::memory::Memory;
    use crate::store::{self, AppendError, Claim, Stage, Staged, Store as _};
    use crate::subscriptions::{self, Subscriptions};
    use async_trait::async_trait;
    use futures::FutureExt as _;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::collections::VecDeque;
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;
    use tonic::Code;

    /// A store on which what is staged becomes durable, and its claim is settled, when the test says so.
    #[derive(Debug)]
    struct Gated {
        memory: Memory,
        staged: Mutex<VecDeque<OnItsWay>>,
        /// Frames that it still takes.
        room: Mutex<usize>,
    }

    type OnItsWay = (Option<Claim>, oneshot::Sender<Result<(), store::Error>>);

    #[async_trait]
    impl Double for Gated {
        fn memory(&self) -> &Memory {
            &self.memory
        }

        async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
            {
                let mut room = self.room.lock();
                *room = room.checked_sub(1).ok_or_else(broken)?;
            }
            let frame = self.memory.stage(None, stage).await?;
            let (settle, settled) = oneshot::channel();
            self.staged.lock().push_back((claim, settle));
            Ok(Staged::new(async move {
                settled.await.map_err(|_| broken())??;
                frame.durable().await
            }))
        }
    }

    fn broken() -> store::Error {
        store::Error::Unavailable { cause: "the disk is on fire".into() }
    }

    impl Gated {
        /// Frames on their way.
        fn staged(&self) -> usize {
            self.staged.lock().len()
        }

        /// Settles the frame that was staged first.
        fn settle(&self, result: Result<(), store::Error>) {
            let (claim, settle) = self.staged.lock().pop_front().expect("a frame is on its way");
            drop(claim);
            settle.send(result).expect("somebody waits for it");
        }

        /// Settles the frame that was staged last.
        fn settle_last(&self) {
            let (claim, settle) = self.staged.lock().pop_back().expect("a frame is on its way");
            drop(claim);
            settle.send(Ok(())).expect("somebody waits for it");
        }
    }

    /// A stream with these messages, each a patch of the sample or nothing at all.
    struct Sending {
        store: Arc<Gated>,
        answers: BoxStream<'static, Result<pb::SendMessagesResponse, Status>>,
        shutdown: CancellationToken,
    }

    impl Sending {
        /// A stream that ends after the messages.
        fn start(messages: impl IntoIterator<Item = Value>, max_in_flight: usize, room: usize) -> Self {
            let requests: Vec<_> = messages.into_iter().map(request).collect();
            Self::of(stream::iter(requests), max_in_flight, room)
        }

        /// A stream that stays open after the messages.
        fn open(messages: impl IntoIterator<Item = Value>) -> Self {
            let requests: Vec<_> = messages.into_iter().map(request).collect();
            Self::of(stream::iter(requests).chain(stream::pending()), 256, usize::MAX)
        }

        fn of(
            requests: impl Stream<Item = Result<pb::SendMessagesRequest, Status>> + Send + 'static,
            max_in_flight: usize,
            room: usize,
        ) -> Self {
            let memory = Memory::new(64 << 20);
            let store = Arc::new(Gated { memory, staged: Mutex::default(), room: Mutex::new(room) });
            let shutdown = CancellationToken::new();
            let inbox = Inbox::new(store.clone(), samples::channels(false), LIMITS, Duration::from_secs(60));
            let feed = feed::Settings { heartbeat: Duration::MAX, heartbeat_skipped: 1, max_streams: 1, cold_scans: 1 };
            let (feed, _matcher) = Feed::new(store.clone(), feed, shutdown.clone());
            let settings = Settings {
                reuse: Reuse::Reject,
                filter_values: 1,
                filter_value_bytes: 1,
                history_page: 1,
                channels_page: 1,
                deliveries_page: 1,
                max_in_flight,
                delivery_wait: Duration::ZERO,
            };
            let subscriptions = Subscriptions::open(
                feed,
                store.clone(),
                Arc::new(store.memory.clone()),
                subscriptions::Settings { max: 1, write_interval: Duration::ZERO },
            );
            let (subscriptions, _writer) = subscriptions.now_or_never().expect("memory never waits").expect("is empty");
            let messages = Messages::new(inbox, subscriptions, settings, shutdown.clone());
            Self { store, answers: answers(messages, Caller::anybody(), requests), shutdown }
        }

        /// Nothing is answered yet; what can be staged is.
        fn waits(&mut self) {
            assert!(self.answers.next().now_or_never().is_none(), "nothing is durable, and nothing can be answered");
        }

        /// The next answer, which is there.
        fn answer(&mut self) -> Option<Result<(u64, String), Status>> {
            let answer = self.answers.next().now_or_never().expect("the answer is there")?;
            Some(answer.map(|answer| {
                let told = match answer.result.expect("it has one") {
                    Answer::Accepted(accepted) if accepted.duplicate => format!("{} again", accepted.message_id),
                    Answer::Accepted(accepted) => accepted.message_id,
                    Answer::Refused(refusal) => refusal.reason,
                };
                (answer.request_number, told)
            }))
        }

        fn answers(&mut self, number: u64, told: &str) {
            let answer = self.answer().expect("the stream goes on").expect("the stream goes on");
            assert_eq!(answer, (number, told.to_owned()));
        }

        fn fails(&mut self) -> Code {
            self.answer().expect("the stream ends with a status").expect_err("the stream fails").code()
        }

        fn ends(&mut self) {
            assert!(self.answer().is_none());
        }
    }

    fn request(patch: Value) -> Result<pb::SendMessagesRequest, Status> {
        let message = (!patch.is_null()).then(|| samples::decoded(&samples::json(patch)));
        Ok(pb::SendMessagesRequest { message })
    }

    fn says(id: &str, text: &str) -> Value {
        json!({ "id": id, "body": { "markdownText": text } })
    }

    #[test]
    fn as_many_are_on_their_way_as_the_bound_allows() {
        let messages = (1..=9).map(|number| says(&format!("m{number}"), "a"));
        let mut sending = Sending::start(messages, 4, usize::MAX);
        sending.waits();
        assert_eq!(sending.store.staged(), 4);
        for number in 1..=9 {
            sending.store.settle(Ok(()));
            sending.answers(number, &format!("m{number}"));
            assert!(sending.store.staged() <= 4);
        }
        sending.ends();
    }

    #[test]
    fn messages_are_accepted_and_answered_in_the_order_of_the_stream() {
        let messages = (1..=9).map(|number| says(&format!("m{number}"), "a"));
        let mut sending = Sending::start(messages, 256, usize::MAX);
        sending.waits();
        assert_eq!(sending.store.staged(), 9);
        for _ in 1..9 {
            sending.store.settle_last();
            sending.waits();
        }
        sending.store.settle_last();
        for number in 1..=9 {
            sending.answers(number, &format!("m{number}"));
        }
        sending.ends();
        let page = store::Page { entries: 100, bytes: usize::MAX };
        let log = sending.store.memory.read(store::Position(0), page).now_or_never().expect("is there").expect("is kept");
        // The first opened the session.
        let ids: Vec<_> = log[1..].iter().map(store::Stored::id).collect();
        assert_eq!(ids, ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9"]);
    }

    #[test]
    fn a_repeat_inside_the_stream_waits_for_the_first_and_is_told_as_a_duplicate() {
        let mut sending = Sending::start([says("m1", "a"), says("m1", "a"), says("m2", "b")], 256, usize::MAX);
        sending.waits();
        assert_eq!(sending.store.staged(), 1, "the order is that of the stream");
        sending.store.settle(Ok(()));
        sending.answers(1, "m1");
        sending.answers(2, "m1 again");
        sending.waits();
        sending.store.settle(Ok(()));
        sending.answers(3, "m2");
        sending.ends();
    }

    #[test]
    fn refusals_come_in_their_place() {
        let messages =
            [says("m1", "a"), json!({ "body": { "type": "IMAGE" } }), Value::Null, says("m2", "b"), says("m1", "other")];
        let mut sending = Sending::start(messages, 256, usize::MAX);
        sending.waits();
        assert_eq!(sending.store.staged(), 2);
        // The second first.
        sending.store.settle_last();
        sending.waits();
        sending.store.settle(Ok(()));
        for (number, told) in (1..).zip(["m1", "INVALID_MESSAGE", "INVALID_REQUEST", "m2", "REUSED_ID"]) {
            sending.answers(number, told);
        }
        sending.ends();
    }

    #[test]
    fn an_answer_does_not_wait_for_the_next_message() {
        let mut sending = Sending::open([says("m1", "a")]);
        sending.waits();
        sending.store.settle(Ok(()));
        sending.answers(1, "m1");
        sending.waits();
    }

    #[test]
    fn a_store_that_fails_ends_the_stream() {
        let mut sending = Sending::start((1..=5).map(|number| says(&format!("m{number}"), "a")), 256, usize::MAX);
        sending.waits();
        sending.store.settle(Ok(()));
        sending.answers(1, "m1");
        sending.store.settle(Err(broken()));
        assert_eq!(sending.fails(), Code::Unavailable);
    }

    #[test]
    fn after_a_message_that_cannot_be_staged_none_is_accepted() {
        let mut sending = Sending::start((1..=5).map(|number| says(&format!("m{number}"), "a")), 256, 2);
        sending.waits();
        assert_eq!(sending.store.staged(), 2);
        // There is room again; the third is not there, so the fourth must not be.
        *sending.store.room.lock() = usize::MAX;
        sending.waits();
        assert_eq!(sending.store.staged(), 2);
        for number in 1..=2 {
            sending.store.settle(Ok(()));
            sending.answers(number, &format!("m{number}"));
        }
        assert_eq!(sending.fails(), Code::Unavailable);
        assert_eq!(sending.store.staged(), 0);
        sending.ends();
    }

    #[test]
    fn at_the_shutdown_what_is_on_its_way_is_answered_first() {
        let mut sending = Sending::open([says("m1", "a"), says("m2", "b")]);
        sending.waits();
        sending.shutdown.cancel();
        sending.waits();
        for number in 1..=2 {
            sending.store.settle(Ok(()));
            sending.answers(number, &format!("m{number}"));
        }
        assert_eq!(sending.fails(), Code::Unavailable);
        sending.ends();
    }
}
