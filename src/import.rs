//! Takes exported messages in: where they belong is told by the messages themselves.

use crate::channels::Snapshot;
use crate::error::Error;
use crate::exported::{self, Line};
use crate::inbox::{Inbox, Reuse, fingerprint};
use crate::message::{self, FILL_SLACK, Limits};
use crate::pb;
use crate::pb::Audience;
use crate::pb::body::Kind;
use crate::pb::store::{Entry, Session, Submission};
use crate::receipts;
use crate::sessions;
use crate::store::{self, AppendError, Facts, SessionFacts, SessionKey, Staged, clock};
use crate::violation::{Reason, Violations};
use prost_types::{Timestamp, value};
use std::collections::VecDeque;

/// Messages that are on their way to the disk at a time.
const UNDER_WAY: usize = 512;

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Messages that are stored now.
    pub stored: u64,
    /// Messages that were there already, with the same content.
    pub skipped: u64,
    /// Typing notifications, which are not worth keeping.
    pub passed_over: u64,
}

/// Why a message is not imported.
#[derive(Debug)]
pub enum ImportError {
    /// It breaks rules, or contradicts what is stored.
    Refused(Violations),
    /// Its id is that of another message.
    Taken {
        /// The id.
        id: String,
    },
    /// The store failed: nothing more can be imported.
    Store(store::Error),
}

impl From<store::Error> for ImportError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Takes messages in, in their order.
#[derive(Debug)]
pub struct Import {
    inbox: Inbox,
    /// Those of which it is not known yet that they are durable.
    under_way: VecDeque<Staged>,
    imported: Imported,
}

impl Import {
    /// An import by way of `inbox`.
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox, under_way: VecDeque::new(), imported: Imported { stored: 0, skipped: 0, passed_over: 0 } }
    }

    /// Takes a message in. With an id, a channel session, a conversation, a customer and the data of the channel it is stored as it
    /// is, for whom its line says; without, it is routed like a new one.
    pub async fn take(&mut self, line: Line) -> Result<(), ImportError> {
        let Line { mut message, audiences, mut violations } = line;
        let limits = *self.inbox.limits();
        let filled = Limits { message_bytes: limits.message_bytes + FILL_SLACK, ..limits };
        violations.follow_up(message::check(&mut message, &filled));
        if !violations.is_empty() {
            return Err(ImportError::Refused(violations));
        }
        if message::is_typing(&message) {
            self.imported.passed_over += 1;
            return Ok(());
        }
        match home(&message) {
            Some(home) => self.keep(message, home, audiences).await,
            None => self.route(message).await,
        }
    }

    /// Waits until everything is durable.
    pub async fn finish(mut self) -> Result<Imported, store::Error> {
        self.settle(0).await?;
        Ok(self.imported)
    }

    async fn settle(&mut self, most: usize) -> Result<(), store::Error> {
        while self.under_way.len() > most
            && let Some(staged) = self.under_way.pop_front()
        {
            staged.durable().await?;
        }
        Ok(())
    }

    /// Stores a message as it is.
    async fn keep(&mut self, message: pb::CimMessage, home: Home, audiences: Option<Vec<Audience>>) -> Result<(), ImportError> {
        self.settle(UNDER_WAY).await?;
        let id = message.id.clone().unwrap_or_default();
        let content = pb::CimMessage { id: None, ..message.clone() };
        let submission = Submission { id: id.clone(), fingerprint: fingerprint(&content), ..Submission::default() };
        // Earlier versions exported no audiences.
        let audiences = audiences.unwrap_or_else(|| exported::implied(&message).collect());
        let store = self.inbox.store().clone();
        loop {
            let claim = store.claim(&id, &submission.fingerprint).await?;
            if claim.taken
                && let Some(there) = store.message(&id).await?
            {
                if there.entry.message.as_deref() == Some(&message) {
                    self.imported.skipped += 1;
                    return Ok(());
                }
                return Err(ImportError::Taken { id });
            }
            let (message, submission, home) = (message.clone(), submission.clone(), home.clone());
            let channels = self.inbox.channels().snapshot();
            let audiences = audiences.iter().map(|audience| i32::from(*audience)).collect();
            let stage = Box::new(move |facts: &dyn Facts| {
                let entry = home.entry(facts, &channels, message, submission)?;
                Ok(vec![Entry { audiences, ..entry }])
            });
            match store.stage(Some(claim), stage).await {
                Ok(staged) => {
                    self.under_way.push_back(staged);
                    self.imported.stored += 1;
                    return Ok(());
                }
                Err(AppendError::Refused(violations)) => return Err(ImportError::Refused(violations)),
                // Nothing was stored: the index is behind, and there is nobody else to serve meanwhile.
                Err(AppendError::Store(store::Error::Busy)) => self.settle(0).await?,
                Err(AppendError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Accepts a message like a new one.
    async fn route(&mut self, message: pb::CimMessage) -> Result<(), ImportError> {
        loop {
            match self.inbox.accept(message.clone(), Violations::default(), Reuse::Reject).await {
                Ok(accepted) if accepted.duplicate => self.imported.skipped += 1,
                Ok(_) => self.imported.stored += 1,
                Err(Error::InvalidMessage { violations }) => return Err(ImportError::Refused(violations)),
                Err(Error::ReusedId { id }) => {
                    // What was stored without a session comes back without one.
                    let there = self.inbox.store().message(&id).await?;
                    if there.is_none_or(|there| there.entry.message.as_deref() != Some(&message)) {
                        return Err(ImportError::Taken { id });
                    }
                    self.imported.skipped += 1;
                }
                Err(Error::Store(store::Error::Busy)) => continue,
                Err(Error::Store(error)) => return Err(error.into()),
                Err(other) => return Err(store::Error::Unavailable { cause: other.to_string() }.into()),
            }
            return Ok(());
        }
    }
}

/// Where a message belongs, as it says itself.
#[derive(Debug, Clone)]
struct Home {
    key: SessionKey,
    session: String,
    conversation: String,
    customer: String,
}

/// The home that a message names, if it names all of it, and has an id.
fn home(message: &pb::CimMessage) -> Option<Home> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    some(&message.id)?;
    let header = message.header.as_ref()?;
    let channel = header.channel_data.as_ref()?;
    Some(Home {
        key: SessionKey {
            service_identifier: some(&channel.service_identifier)?,
            channel_customer_identifier: some(&channel.channel_customer_identifier)?,
        },
        session: some(&header.channel_session_id)?,
        conversation: some(&header.conversation_id)?,
        customer: some(&header.customer.as_ref()?.id)?,
    })
}

/// What a message tells of its session.
enum News {
    Started,
    Ended { reason: String },
    Nothing,
}

fn news(message: &pb::CimMessage) -> News {
    let Some(Kind::Notification(notification)) = message::kind(message) else { return News::Nothing };
    match notification.notification_type.as_deref() {
        Some("CHANNEL_SESSION_STARTED") => News::Started,
        Some("CHANNEL_SESSION_ENDED") => {
            let reason = notification.notification_data.as_ref().and_then(|data| data.fields.get("reasonCode"));
            let reason = match reason.and_then(|reason| reason.kind.as_ref()) {
                Some(value::Kind::StringValue(reason)) => reason.clone(),
                _ => String::new(),
            };
            News::Ended { reason }
        }
        _ => News::Nothing,
    }
}

/// When the customer of a session was last active: `at` the time of a message that counts, or as it is known, if that is later. So older
/// messages take nothing back.
fn last_activity(at: Option<Timestamp>, known: Option<&SessionFacts>) -> Option<Timestamp> {
    let known = known.map(|known| known.last_activity);
    at.iter().chain(&known).map(clock::to_nanos).max().map(clock::from_nanos)
}

impl Home {
    /// The entry of a message.
    fn entry(
        self,
        facts: &dyn Facts,
        channels: &Snapshot,
        message: pb::CimMessage,
        submission: Submission,
    ) -> Result<Entry, Violations> {
        let (position, known) = facts.session_and_position(&self.session).unzip();
        if let Some(known) = &known {
            self.check(&known.session)?;
        }
        // Its session is the one that it names, whatever it reports on.
        let reported = receipts::reported(facts, &message);
        let at = message.header.as_ref().and_then(|header| header.timestamp);
        let news = news(&message);
        let opens = matches!(news, News::Started) || message::may_open(&message);
        let is_activity = (known.is_none() && opens) || message::is_of_customer(&message);
        let last_activity = last_activity(at.filter(|_| is_activity), known.as_ref());
        let ranked_at = position.filter(|_| message::reports(&message)).map_or(0, |position| position.0);
        let session = match known {
            Some(SessionFacts { session: known, .. }) => {
                Some(Session { conversation_id: self.conversation, customer_id: self.customer, ..Session::clone(&known) })
            }
            // Nobody knows whether there was one.
            None if !opens => None,
            None => Some(Session {
                id: self.session,
                channel_type: channels.channel_type(&self.key.service_identifier).to_owned(),
                service_identifier: self.key.service_identifier,
                channel_customer_identifier: self.key.channel_customer_identifier,
                conversation_id: self.conversation,
                customer_id: self.customer,
                opened_at: at,
                ended_at: None,
                end_reason: String::new(),
            }),
        };
        let session = session.map(|session| match news {
            News::Ended { reason } => Session { ended_at: at, end_reason: reason, ..session },
            News::Started | News::Nothing => session,
        });
        let own = sessions::is_notice(&message);
        let entry = sessions::entry(message, session, Some(submission).filter(|_| !own));
        Ok(Entry { about: reported.about, earlier: reported.earlier, last_activity, ranked_at, ..entry })
    }

    /// Fails if the session is of another customer's channel.
    fn check(&self, known: &Session) -> Result<(), Violations> {
        if SessionKey::of(known) == self.key {
            return Ok(());
        }
        let mut violations = Violations::default();
        let message = format!(
            "the channel session {} is of {:?} on {:?}, found {:?} on {:?}",
            known.id,
            known.channel_customer_identifier,
            known.service_identifier,
            self.key.channel_customer_identifier,
            self.key.service_identifier
        );
        violations.add("header.channelSessionId", Reason::ConflictingRoute, message);
        Err(violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcomes::Outcome;
    use crate::pb::DeliveryStatus;
    use crate::samples::{self, LIMITS};
    use crate::store::memory::Memory;
    use crate::store::{Page, Position, Store as _, Stored};
    use crate::timeline::{Event, timeline};
    use futures::FutureExt as _;
    use serde_json::{Value as Json, json};
    use std::sync::Arc;
    use std::time::Duration;

    /// The time of the sample message, in milliseconds.
    const AT: i64 = 1_700_000_000_000;

    /// What is stored after messages were imported that name all of their home, each the sample message after a patch.
    fn imported(patches: &[Json]) -> (Arc<Memory>, Vec<Stored>) {
        let memory = Arc::new(Memory::new(64 << 20));
        let inbox = Inbox::new(memory.clone(), samples::channels(false), LIMITS, Duration::from_secs(60));
        let mut import = Import::new(inbox);
        for patch in patches {
            let mut json = samples::json(json!({
                "header": { "channelSessionId": "s1", "conversationId": "c1", "customer": { "_id": "k1" } },
            }));
            samples::patch(&mut json, patch);
            let line = exported::read(json.to_string().as_bytes(), 64).expect("is JSON");
            let taken = import.take(line);
            taken.now_or_never().expect("memory never waits").unwrap_or_else(|error| panic!("{patch}: {error:?}"));
        }
        import.finish().now_or_never().expect("memory never waits").expect("is durable");
        let page = Page { entries: usize::MAX, bytes: usize::MAX };
        let stored = memory.read(Position(0), page).now_or_never().expect("memory never waits").expect("all is kept");
        (memory, stored)
    }

    fn said(id: &str, by: &str, after: i64) -> Json {
        json!({ "id": id, "header": { "sender": { "id": "s", "type": by, "senderName": "S" }, "timestamp": AT + after } })
    }

    fn receipt(id: &str, after: i64, about: &str, status: &str) -> Json {
        let mut receipt = said(id, "CONNECTOR", after);
        receipt["body"] = json!({ "type": "DELIVERYNOTIFICATION", "messageId": about, "status": status, "markdownText": null });
        receipt
    }

    /// With the id that the provider of the channel has for the message.
    fn of_provider(mut patch: Json, id: &str) -> Json {
        patch["header"]["providerMessageId"] = id.into();
        patch
    }

    /// What became of a message, and how many receipts count.
    fn outcome(memory: &Memory, about: &Stored) -> (Option<DeliveryStatus>, usize) {
        let timeline = timeline(memory, about).now_or_never().expect("memory never waits").expect("all is kept");
        let counts = timeline.events.iter().filter(|event| matches!(event, Event::Receipt { counts: true, .. })).count();
        (timeline.outcome.map(|Outcome { status, .. }| status), counts)
    }

    fn for_whom(mut patch: Json, audiences: &[&str]) -> Json {
        patch["gatewayAudiences"] = json!(audiences);
        patch
    }

    #[test]
    fn who_a_message_is_for_is_told_by_its_line_or_else_by_the_message() {
        let outcome = receipt("r1", 2, "m1", "DELIVERED");
        let lines = [
            said("m1", "BOT", 0),
            for_whom(said("m2", "BOT", 1), &["PLATFORM"]),
            for_whom(outcome, &["CUSTOMER"]),
            for_whom(said("m3", "CUSTOMER", 3), &["CUSTOMER", "PLATFORM"]),
        ];
        let (_, stored) = imported(&lines);
        let told: Vec<_> = stored.iter().map(|stored| stored.entry.audiences().collect::<Vec<_>>()).collect();
        let (customer, platform) = (Audience::Customer, Audience::Platform);
        assert_eq!(told, [vec![customer], vec![platform], vec![customer], vec![customer, platform]]);
        let lines: Vec<_> = stored.iter().map(|stored| exported::write(&stored.entry).expect("has a message")).collect();
        assert!(!String::from_utf8_lossy(&lines[0]).contains("gatewayAudiences"));
        let exported: Vec<Json> = lines.iter().map(|line| serde_json::from_slice(line).expect("is JSON")).collect();
        let (_, again) = imported(&exported);
        let audiences = |stored: &[Stored]| stored.iter().map(|stored| stored.entry.audiences.clone()).collect::<Vec<_>>();
        assert_eq!(audiences(&again), audiences(&stored));
    }

    #[test]
    fn receipts_are_about_the_messages_that_they_name() {
        let by_provider = of_provider(said("m2", "AGENT", 1), "p2");
        let lines = [
            said("m1", "AGENT", 0),
            by_provider,
            receipt("r1", 2, "m1", "DELIVERED"),
            receipt("r2", 3, "m1", "READ"),
            receipt("r3", 4, "p2", "DELIVERED"),
        ];
        let (memory, stored) = imported(&lines);
        let about: Vec<_> = stored.iter().map(|stored| stored.entry.about).collect();
        let [first, second] = [stored[0].position.0, stored[1].position.0];
        assert_eq!(about, [0, 0, first, first, second]);
        assert_eq!(outcome(&memory, &stored[0]), (Some(DeliveryStatus::Read), 2));
        assert_eq!(outcome(&memory, &stored[1]), (Some(DeliveryStatus::Delivered), 1));
    }

    #[test]
    fn receipts_that_came_before_anybody_knew_the_message_are_found_by_later_ones() {
        let lines =
            [said("m1", "AGENT", 0), receipt("r1", 1, "p1", "DELIVERED"), of_provider(receipt("r2", 2, "m1", "READ"), "p1")];
        let (memory, stored) = imported(&lines);
        assert_eq!((stored[1].entry.about, stored[2].entry.about), (0, stored[0].position.0));
        assert_eq!(stored[2].entry.earlier, stored[1].position.0);
        assert_eq!(outcome(&memory, &stored[0]), (Some(DeliveryStatus::Read), 2));
    }

    #[test]
    fn a_receipt_stays_in_the_session_that_it_names() {
        let mut elsewhere = receipt("r1", 1, "m1", "READ");
        elsewhere["header"]["channelSessionId"] = "s2".into();
        let (memory, stored) = imported(&[said("m1", "AGENT", 0), elsewhere]);
        assert_eq!(stored[1].entry.session, None, "nobody knows it");
        assert_eq!(outcome(&memory, &stored[0]), (Some(DeliveryStatus::Read), 1));
    }

    #[test]
    fn what_is_reported_leaves_its_session_where_it_stood() {
        let on_mail = |id: &str, after: i64| {
            let mut patch = said(id, "CUSTOMER", after);
            patch["header"]["channelSessionId"] = "s2".into();
            patch["header"]["channelData"] = json!({ "serviceIdentifier": "mail" });
            patch
        };
        let lines = [said("m1", "AGENT", 0), on_mail("m2", 1), receipt("r1", 2, "m1", "READ")];
        let (memory, stored) = imported(&lines);
        assert_eq!(stored[2].entry.session, stored[0].entry.session);
        let look = Box::new(|facts: &dyn Facts| {
            assert_eq!(facts.session_of_conversation("c1").map(|session| session.id.clone()).as_deref(), Some("s2"));
            Err(Violations::default())
        });
        memory.append(None, look).now_or_never().expect("memory never waits").expect_err("only looks");
    }

    /// When the customer of the session was last active, as every entry tells it: so long after the sample message.
    fn activity(patches: &[Json]) -> Vec<Option<i64>> {
        let (_, stored) = imported(patches);
        let after = |stored: &Stored| stored.entry.last_activity.map(|time| crate::wire::to_millis(&time) - AT);
        stored.iter().map(after).collect()
    }

    #[test]
    fn customers_were_active_when_their_messages_say() {
        let end = json!({ "header": { "intent": "END_CHAT" }, "body": null });
        let mut ended = said("m4", "AGENT", 5000);
        samples::patch(&mut ended, &end);
        let lines = [
            said("m1", "AGENT", 1000),
            said("m2", "CUSTOMER", 2000),
            said("m3", "AGENT", 3000),
            receipt("r1", 4000, "m3", "READ"),
            ended,
        ];
        assert_eq!(activity(&lines), [1000, 2000, 2000, 2000, 2000].map(Some), "the opening counts, whoever opens it");
    }

    #[test]
    fn an_older_message_of_the_customer_takes_no_activity_back() {
        let lines = [said("m1", "CUSTOMER", 2000), said("m2", "CUSTOMER", 1000)];
        assert_eq!(activity(&lines), [Some(2000); 2]);
    }

    #[test]
    fn a_message_of_no_time_leaves_what_is_known_of_activity() {
        let mut untimed = said("m2", "CUSTOMER", 0);
        untimed["header"]["timestamp"] = Json::Null;
        assert_eq!(activity(&[said("m1", "CUSTOMER", 1000), untimed]), [Some(1000); 2]);
    }
}
