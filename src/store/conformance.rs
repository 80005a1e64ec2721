//! The promise of [`super`] as rules that every engine must keep.
//!
//! An engine stamps them out as tests: `conforms!(roomy: Engine::new(..), cramped: Engine::new(..))`. Both expressions make an
//! empty engine; a roomy one keeps all that a rule appends, a cramped one no more than some 50 small entries.

mod life;
mod model;

pub(super) use life::Life;
pub(super) use model::Model;

use super::random::Random;
use super::{
    Ahead, AppendError, Common, CustomerFacts, Deliveries, Delivery, DeliveryId, Error, Facts, Frame, Name, Named, Page,
    Position, Progress, SessionFacts, SessionFilter, SessionKey, SessionPage, Store, Stored, Wanted, customer_numbers,
    message_of,
};
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{DeliveryState, DeliveryStep, Endpoint, Entry, Session, Submission};
use crate::receipts;
use crate::sessions;
use crate::violation::{Reason, Violations};
use crate::wire;
use futures::FutureExt as _;
use futures::future::join_all;
use prost::Message as _;
use prost_types::{Timestamp, Value, value};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

macro_rules! conforms {
    (roomy: $roomy:expr, cramped: $cramped:expr) => {
        $crate::store::conformance::conforms!(@ $roomy;
            positions_rise_by_one_and_frames_are_consecutive,
            positions_and_times_are_the_engines_to_fill_in,
            a_frame_is_seen_whole_or_not_at_all,
            what_append_returned_can_be_read_at_once,
            the_durable_position_never_falls_and_reaches_the_end,
            a_stage_sees_all_that_was_staged_before,
            a_refused_stage_leaves_nothing_behind,
            a_refused_stage_releases_its_claim,
            a_claim_waits_for_the_one_before_and_sees_what_it_appended,
            a_dropped_claim_lets_the_next_one_try,
            a_claim_is_settled_although_nobody_waits_for_its_frame,
            a_caller_that_stops_waiting_blocks_nobody,
            claims_on_other_ids_do_not_wait,
            a_claim_tells_whether_its_id_is_taken_and_by_which_entry_of_the_same_content,
            of_many_who_claim_one_id_one_appends,
            reading_goes_by_pages_of_entries_and_of_bytes,
            reading_beyond_the_end_is_empty,
            what_is_no_message_is_for_no_reader,
            a_message_is_found_by_the_id_it_has_now,
            an_ephemeral_entry_is_read_but_has_no_look_up_and_no_history,
            a_history_is_newest_first_in_pages_that_later_messages_do_not_shift,
            a_history_never_shows_another_conversation,
            an_unknown_conversation_has_no_history,
            a_time_leads_to_the_first_entry_at_or_after_it,
            times_of_acceptance_never_fall,
            facts_follow_from_the_log,
            what_only_reports_leaves_its_session_where_it_stood,
            sessions_are_listed_as_the_log_tells_them,
            a_list_of_sessions_is_not_shifted_by_later_ones,
            deliveries_are_listed_in_the_order_of_their_planning,
            a_settled_delivery_is_listed_no_more,
            what_tells_of_an_entry_is_found,
            a_notification_goes_by_its_providers_id,
            a_message_goes_by_the_providers_id_that_a_step_of_its_delivery_tells,
            a_span_covers_the_log,
        );
        $crate::store::conformance::conforms!(@ $cramped;
            reading_what_is_gone_tells_the_oldest_that_is_kept,
            what_is_gone_is_found_in_no_way,
            a_time_before_all_that_is_kept_leads_to_the_oldest,
            nothing_is_planned_of_a_message_that_is_gone,
        );
    };
    (@ $engine:expr; $($rule:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::store::conformance::$rule(std::sync::Arc::new($engine)).await;
            }
        )*
    };
}
pub(super) use conforms;

/// Longer than anything takes that need not wait.
const AT_ONCE: Duration = Duration::from_secs(5);

const ALL: Page = Page { entries: usize::MAX, bytes: usize::MAX };

// Positions and frames

pub(super) async fn positions_rise_by_one_and_frames_are_consecutive(store: Arc<dyn Store>) {
    let mut expected = Position(0);
    for length in [1, 3, 2, 1] {
        for stored in append(&*store, (0..length).map(|i| said(&format!("{expected}-{i}"))).collect()).await {
            expected = expected.next();
            assert_eq!(stored.position, expected);
        }
    }
    let read: Vec<_> = log(&*store).await.iter().map(|stored| stored.position.0).collect();
    assert_eq!(read, (1..=7).collect::<Vec<_>>());
}

pub(super) async fn positions_and_times_are_the_engines_to_fill_in(store: Arc<dyn Store>) {
    let began = Timestamp::from(SystemTime::now());
    let forged = Timestamp { seconds: 1, nanos: 0 };
    let entry = Entry { accepted_at: Some(forged), previous_in_conversation: 77, ..belonging("a", "c") };
    let stored = append(&*store, vec![entry.clone(), entry]).await;
    for stored in &stored {
        assert!(key(&stored.entry.accepted_at) >= (began.seconds, began.nanos));
    }
    let previous: Vec<_> = stored.iter().map(|stored| stored.entry.previous_in_conversation).collect();
    assert_eq!(previous, [0, stored[0].position.0]);
}

pub(super) async fn a_frame_is_seen_whole_or_not_at_all(store: Arc<dyn Store>) {
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for frame in 0..300 {
                append(&*store, (0..3).map(|i| said(&format!("{frame}-{i}"))).collect()).await;
            }
        }
    });
    let durable = store.durable();
    loop {
        let done = writer.is_finished();
        let seen = durable.borrow().0;
        assert_eq!(seen % 3, 0, "the durable position {seen} is within a frame");
        let span = store.span();
        assert_eq!(span.end.0 % 3, 0, "the span ends within a frame");
        let read = log(&*store).await;
        assert_eq!(read.len() % 3, 0, "a reader saw part of a frame");
        assert!(read.len() as u64 >= span.end.0 && span.end.0 >= seen, "what was durable could not be read");
        if done {
            break;
        }
    }
    writer.await.expect("the writer is done");
}

pub(super) async fn what_append_returned_can_be_read_at_once(store: Arc<dyn Store>) {
    for i in 0..20 {
        let id = format!("m{i}");
        let appended = append(&*store, vec![belonging(&id, "c")]).await;
        let position = appended[0].position;
        let read = store.read(position.previous(), ALL).await.expect("it is kept");
        assert_eq!(ids(&read), [id.as_str()]);
        assert_eq!(read[0].entry, appended[0].entry);
        assert_eq!(store.span().end, position);
        assert_eq!(*store.durable().borrow(), position);
        assert_eq!(store.message(&id).await.expect("can be read").map(|stored| stored.position), Some(position));
        let history = store.history("c", None, 1).await.expect("can be read").expect("is known");
        assert_eq!(ids(&history), [id.as_str()]);
        assert!(store.claim(&id, b"").await.expect("can be claimed").taken);
    }
}

pub(super) async fn the_durable_position_never_falls_and_reaches_the_end(store: Arc<dyn Store>) {
    let mut durable = store.durable();
    let watcher = tokio::spawn(async move {
        let mut seen = Position(0);
        while seen < Position(400) {
            durable.changed().await.expect("the store lives");
            let now = *durable.borrow_and_update();
            assert!(now >= seen, "the durable position fell from {seen} to {now}");
            seen = now;
        }
    });
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                append(&*store, vec![said(&format!("{writer}-{i}"))]).await;
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("the writer is done");
    }
    timeout(AT_ONCE, watcher).await.expect("the end becomes durable").expect("the watcher is content");
}

// Stages

pub(super) async fn a_stage_sees_all_that_was_staged_before(store: Arc<dyn Store>) {
    let count = |facts: &dyn Facts| facts.session("counter").map_or(0, |session| session.end_reason.parse().unwrap_or(0));
    let writers = (0..64).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let stage = Box::new(move |facts: &dyn Facts| {
                let session = Session { end_reason: (count(facts) + 1).to_string(), ..session("counter", "c") };
                Ok(vec![Entry { session: Some(session), ..said(&format!("m{writer}")) }])
            });
            store.append(None, stage).await.expect("can be appended");
        })
    });
    for writer in join_all(writers).await {
        writer.expect("the writer is done");
    }
    assert_eq!(look(&*store, |facts| count(facts)).await, 64);
}

pub(super) async fn a_refused_stage_leaves_nothing_behind(store: Arc<dyn Store>) {
    append(&*store, vec![belonging("a", "c")]).await;
    let before = store.span();
    let mut broken = Violations::default();
    broken.add("header", Reason::Required, "is required");
    let told = broken.clone();
    let refused = store.append(None, Box::new(move |_| Err(broken))).await;
    assert!(matches!(refused, Err(AppendError::Refused(violations)) if violations == told));
    assert_eq!(store.span(), before);
    assert_eq!(*store.durable().borrow(), before.end);
    assert_eq!(append(&*store, vec![said("b")]).await[0].position, before.end.next());
}

pub(super) async fn a_refused_stage_releases_its_claim(store: Arc<dyn Store>) {
    let claim = store.claim("a", b"").await.expect("can be claimed");
    let refused = store.append(Some(claim), Box::new(|_| Err(Violations::default()))).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))));
    let next = timeout(AT_ONCE, store.claim("a", b"")).await.expect("the claim is released").expect("can be claimed");
    assert!(!next.taken);
}

// Claims

pub(super) async fn a_claim_waits_for_the_one_before_and_sees_what_it_appended(store: Arc<dyn Store>) {
    let first = store.claim("a", b"").await.expect("can be claimed");
    assert!(!first.taken);
    let mut second = store.claim("a", b"");
    assert!(second.as_mut().now_or_never().is_none(), "two hold one claim");
    store.append(Some(first), Box::new(|_| Ok(vec![said("a")]))).await.expect("can be appended");
    let second = timeout(AT_ONCE, second).await.expect("the claim is settled").expect("can be claimed");
    assert!(second.taken);
}

pub(super) async fn a_dropped_claim_lets_the_next_one_try(store: Arc<dyn Store>) {
    let first = store.claim("a", b"").await.expect("can be claimed");
    let mut second = store.claim("a", b"");
    let mut third = store.claim("a", b"");
    assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none(), "two hold one claim");
    drop(first);
    let (winner, loser) =
        match timeout(AT_ONCE, futures::future::select(second, third)).await.expect("one of those who wait is next") {
            futures::future::Either::Left((winner, loser)) => (winner.expect("can be claimed"), loser),
            futures::future::Either::Right((winner, loser)) => (winner.expect("can be claimed"), loser),
        };
    assert!(!winner.taken);
    drop(winner);
    timeout(AT_ONCE, loser).await.expect("the other is next").expect("can be claimed");
}

pub(super) async fn a_claim_is_settled_although_nobody_waits_for_its_frame(store: Arc<dyn Store>) {
    let claim = store.claim("a", b"").await.expect("can be claimed");
    let staged = store.stage(Some(claim), Box::new(|_| Ok(vec![said("a")]))).await.expect("can be staged");
    let next = timeout(AT_ONCE, store.claim("a", b"")).await.expect("it does not hang on who waits").expect("can be claimed");
    assert!(next.taken);
    let stored = timeout(AT_ONCE, staged.durable()).await.expect("it is durable by now").expect("is stored");
    assert_eq!(ids(&stored), ["a"]);
}

pub(super) async fn a_caller_that_stops_waiting_blocks_nobody(store: Arc<dyn Store>) {
    let first = store.claim("a", b"").await.expect("can be claimed");
    let mut impatient = store.claim("a", b"");
    assert!(impatient.as_mut().now_or_never().is_none());
    let mut patient = store.claim("a", b"");
    assert!(patient.as_mut().now_or_never().is_none());
    drop(impatient);
    drop(first);
    timeout(AT_ONCE, patient).await.expect("the patient one is next").expect("can be claimed");
}

pub(super) async fn claims_on_other_ids_do_not_wait(store: Arc<dyn Store>) {
    let _held = store.claim("a", b"").await.expect("can be claimed");
    timeout(AT_ONCE, store.claim("b", b"")).await.expect("nobody holds it").expect("can be claimed");
    timeout(AT_ONCE, store.append(None, Box::new(|_| Ok(vec![said("c")])))).await.expect("need not wait").expect("is appended");
}

pub(super) async fn a_claim_tells_whether_its_id_is_taken_and_by_which_entry_of_the_same_content(store: Arc<dyn Store>) {
    let sent = |entry: Entry, content: &str| {
        let submission = Submission { fingerprint: content.into(), ..*entry.submission.unwrap_or_default() };
        Entry { submission: Some(submission.into()), ..entry }
    };
    append(&*store, vec![sent(said("a"), "hi"), sent(renewed("a1", "a"), "ho"), said("b")]).await;
    append(&*store, vec![sent(renewed("a2", "a"), "he"), sent(renewed("a3", "a"), "ho")]).await;
    let told = async |id: &str, content: &str| {
        let claim = store.claim(id, content.as_bytes()).await.expect("can be claimed");
        (claim.taken, claim.same_content.map(|stored| stored.id().to_owned()))
    };
    assert_eq!(told("a", "hi").await, (true, Some("a".into())));
    assert_eq!(told("a", "he").await, (true, Some("a2".into())));
    assert_eq!(told("a", "ho").await, (true, Some("a3".into())), "the latest is told");
    assert_eq!(told("a", "hu").await, (true, None));
    assert_eq!(told("a2", "he").await, (true, Some("a2".into())), "an id that the gateway gave is taken, too");
    assert_eq!(told("b", "hi").await, (true, None));
    assert_eq!(told("c", "hi").await, (false, None));
}

pub(super) async fn of_many_who_claim_one_id_one_appends(store: Arc<dyn Store>) {
    let callers = (0..64).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let claim = store.claim("a", b"").await.expect("can be claimed");
            match claim.same_content {
                None => {
                    tokio::task::yield_now().await;
                    let submitted = || Entry { submission: Some(Box::default()), ..said("a") };
                    let stored = store.append(Some(claim), Box::new(move |_| Ok(vec![submitted()]))).await;
                    stored.expect("can be appended")[0].position
                }
                Some(first) => first.position,
            }
        })
    });
    for position in timeout(AT_ONCE, join_all(callers)).await.expect("each gets its turn") {
        assert_eq!(position.expect("the caller is done"), Position(1));
    }
    assert_eq!(store.span().end, Position(1));
}

// Reading

pub(super) async fn reading_goes_by_pages_of_entries_and_of_bytes(store: Arc<dyn Store>) {
    let large = |id: &str| {
        let mut entry = said(id);
        let body = pb::Body { markdown_text: Some("x".repeat(1000)), ..pb::Body::default() };
        entry.message.get_or_insert_default().body = Some(body);
        entry
    };
    append(&*store, vec![said("a"), said("b"), said("c"), large("d"), said("e")]).await;
    let small = log(&*store).await[0].entry.message.as_deref().map_or(0, pb::CimMessage::encoded_len);
    for (after, entries, bytes, given) in [
        (0, 2, usize::MAX, &["a", "b"][..]),
        (2, 2, usize::MAX, &["c", "d"]),
        (4, 2, usize::MAX, &["e"]),
        (0, 0, usize::MAX, &[]),
        (0, 9, small * 2, &["a", "b"]),
        (0, 9, small * 3 - 1, &["a", "b"]),
        (2, 9, 999, &["c"]),
        (3, 9, 1, &["d"]),
        (3, 9, 0, &["d"]),
        (0, 9, usize::MAX, &["a", "b", "c", "d", "e"]),
    ] {
        let read = store.read(Position(after), Page { entries, bytes }).await.expect("all is kept");
        assert_eq!(ids(&read), given, "after {after}, {entries} entries, {bytes} bytes");
    }
}

pub(super) async fn reading_beyond_the_end_is_empty(store: Arc<dyn Store>) {
    for entries in [0, 3] {
        append(&*store, (0..entries).map(|i| said(&i.to_string())).collect()).await;
        for after in [entries, entries + 1, 99, u64::MAX] {
            let read = store.read(Position(after), ALL).await;
            assert!(read.as_ref().is_ok_and(Vec::is_empty), "{entries} entries, after {after}: {read:?}");
        }
    }
}

pub(super) async fn what_is_no_message_is_for_no_reader(store: Arc<dyn Store>) {
    let planned = append(&*store, vec![planning(said("a"), &[Endpoint::Connector])]).await.remove(0);
    let id = DeliveryId { planned_at: planned.position, endpoint: Endpoint::Connector };
    let retried = Entry { delivery_steps: vec![step(id, DeliveryState::Pending)], ..Entry::default() };
    append(&*store, vec![retried, said("b")]).await;
    assert_eq!(ids(&log(&*store).await), ["a", "b"]);
}

pub(super) async fn a_message_is_found_by_the_id_it_has_now(store: Arc<dyn Store>) {
    append(&*store, vec![said("a"), renewed("a1", "a"), renewed("b1", "b"), said("c")]).await;
    for (id, position) in [("a", Some(1)), ("a1", Some(2)), ("b1", Some(3)), ("b", None), ("c", Some(4)), ("", None), ("d", None)]
    {
        let found = store.message(id).await.expect("can be read");
        assert_eq!(found.map(|stored| stored.position.0), position, "{id:?}");
    }
}

pub(super) async fn an_ephemeral_entry_is_read_but_has_no_look_up_and_no_history(store: Arc<dyn Store>) {
    let typing = |id: &str| Entry { ephemeral: true, ..belonging(id, "c") };
    append(&*store, vec![typing("t1"), belonging("a", "c"), typing("t2"), belonging("b", "c")]).await;
    assert_eq!(ids(&log(&*store).await), ["t1", "a", "t2", "b"]);
    assert!(store.message("t1").await.expect("can be read").is_none());
    assert!(!store.claim("t1", b"").await.expect("can be claimed").taken);
    assert_eq!(history(&*store, "c", None, 9).await.expect("is known"), [4, 2]);
    append(&*store, vec![Entry { ephemeral: true, ..belonging("t3", "quiet") }]).await;
    assert_eq!(history(&*store, "quiet", None, 9).await.unwrap_or_default(), [0; 0]);
}

pub(super) async fn a_history_is_newest_first_in_pages_that_later_messages_do_not_shift(store: Arc<dyn Store>) {
    append(&*store, vec![belonging("a", "c"), belonging("x", "other"), belonging("b", "c"), said("unrouted")]).await;
    append(&*store, vec![belonging("d", "c"), belonging("y", "other"), belonging("e", "c")]).await;
    assert_eq!(history(&*store, "c", None, 9).await.expect("is known"), [7, 5, 3, 1]);
    assert_eq!(history(&*store, "c", None, 2).await.expect("is known"), [7, 5]);
    append(&*store, vec![belonging("f", "c")]).await;
    assert_eq!(history(&*store, "c", Some(Position(5)), 2).await.expect("is known"), [3, 1]);
    assert_eq!(history(&*store, "c", Some(Position(1)), 2).await.expect("is known"), [0; 0]);
    assert_eq!(history(&*store, "c", None, 0).await.expect("is known"), [0; 0]);
    assert_eq!(history(&*store, "other", None, 9).await.expect("is known"), [6, 2]);
}

pub(super) async fn a_history_never_shows_another_conversation(store: Arc<dyn Store>) {
    for i in 0..12 {
        append(&*store, vec![belonging(&i.to_string(), ["c", "d", "e"][i % 3])]).await;
    }
    for forged in (0..20).chain([u64::MAX - 1, u64::MAX]) {
        for conversation in ["c", "d", "e"] {
            let page = store.history(conversation, Some(Position(forged)), 9).await.expect("can be read").expect("is known");
            for stored in page {
                assert_eq!(stored.entry.session.as_ref().map(|s| s.conversation_id.as_str()), Some(conversation), "{forged}");
                assert!(stored.position.0 < forged);
            }
        }
    }
}

pub(super) async fn an_unknown_conversation_has_no_history(store: Arc<dyn Store>) {
    append(&*store, vec![belonging("a", "c"), said("b")]).await;
    for unknown in ["d", "", "a"] {
        assert!(history(&*store, unknown, None, 9).await.is_none(), "{unknown:?}");
        assert!(history(&*store, unknown, Some(Position(1)), 9).await.is_none(), "{unknown:?}");
    }
}

pub(super) async fn a_time_leads_to_the_first_entry_at_or_after_it(store: Arc<dyn Store>) {
    assert_eq!(store.before(Timestamp { seconds: 1, nanos: 0 }).await, Ok(Position(0)));
    for i in 0..6 {
        append(&*store, vec![said(&format!("{i}a")), said(&format!("{i}b"))]).await;
        tokio::time::sleep(Duration::from_millis(i)).await;
    }
    let log = log(&*store).await;
    let nanosecond = |time: &Timestamp, by: i32| match time.nanos + by {
        -1 => Timestamp { seconds: time.seconds - 1, nanos: 999_999_999 },
        1_000_000_000 => Timestamp { seconds: time.seconds + 1, nanos: 0 },
        nanos => Timestamp { seconds: time.seconds, nanos },
    };
    for stored in &log {
        let accepted_at = stored.entry.accepted_at.expect("is filled in");
        for time in [nanosecond(&accepted_at, -1), accepted_at, nanosecond(&accepted_at, 1)] {
            let later = log.iter().find(|stored| key(&stored.entry.accepted_at) >= (time.seconds, time.nanos));
            let expected = later.map_or(store.span().end, |stored| stored.position.previous());
            assert_eq!(store.before(time).await, Ok(expected));
        }
    }
    assert_eq!(store.before(Timestamp { seconds: i64::MIN, nanos: 0 }).await, Ok(Position(0)));
    assert_eq!(store.before(Timestamp { seconds: i64::MAX, nanos: 0 }).await, Ok(store.span().end));
}

pub(super) async fn times_of_acceptance_never_fall(store: Arc<dyn Store>) {
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..50 {
                append(&*store, vec![said(&format!("{writer}-{i}a")), said(&format!("{writer}-{i}b"))]).await;
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("the writer is done");
    }
    assert!(log(&*store).await.is_sorted_by_key(|stored| key(&stored.entry.accepted_at)));
}

pub(super) async fn a_span_covers_the_log(store: Arc<dyn Store>) {
    let empty = store.span();
    assert_eq!((empty.oldest, empty.end), (Position(1), Position(0)));
    append(&*store, vec![said("a"), said("b")]).await;
    let span = store.span();
    assert_eq!((span.oldest, span.end, span.epoch), (Position(1), Position(2), empty.epoch));
    let cursor = span.cursor(Position(2));
    assert_eq!((cursor.epoch, cursor.position), (span.epoch, Position(2)));
}

// Facts

pub(super) async fn facts_follow_from_the_log(store: Arc<dyn Store>) {
    let mut life = Life::new();
    for _ in 0..120 {
        live(&*store, &mut life).await;
        let log = log(&*store).await;
        if log.len().is_multiple_of(7) {
            look(&*store, |facts| Model(&log).assert_agrees(facts)).await;
        }
    }
    let log = log(&*store).await;
    look(&*store, |facts| Model(&log).assert_agrees(facts)).await;
    for conversation in Model(&log).conversations() {
        let told = Model(&log).history(&conversation);
        assert_eq!(history(&*store, &conversation, None, usize::MAX).await.unwrap_or_default(), told);
    }
}

pub(super) async fn what_only_reports_leaves_its_session_where_it_stood(store: Arc<dyn Store>) {
    let of = |channel: &str, ranked_at: u64| {
        let session = Session {
            id: channel.into(),
            service_identifier: channel.into(),
            channel_type: "type".into(),
            customer_id: "one".into(),
            ..session(channel, "c")
        };
        Entry { session: Some(session), ranked_at, ..said(&format!("on {channel}")) }
    };
    let key = SessionKey { service_identifier: "first".into(), channel_customer_identifier: String::new() };
    let meant = async || {
        look(&*store, |facts| {
            let commons =
                [Common::Conversation("c"), Common::Customer("one"), Common::Address { channel_type: "type", address: "" }];
            let meant = commons.map(|common| facts.session_with(common, &|_| false).expect("is known").id.clone());
            assert!(meant.iter().all(|id| *id == meant[0]), "{meant:?}");
            assert_eq!(facts.latest_session(&key).expect("is known").id, "first");
            let [first, second] = ["first", "second"].map(|id| facts.session_and_position(id).expect("is known").0.0);
            (meant[0].clone(), first, second)
        })
        .await
    };
    let told = |meant: &str, first, second| (meant.to_owned(), first, second);
    append(&*store, vec![of("first", 0), of("second", 0)]).await;
    for _ in 0..20 {
        append(&*store, vec![of("first", 1)]).await;
        assert_eq!(meant().await, told("second", 1, 2));
    }
    let stored = append(&*store, vec![of("first", 0), of("second", 2)]).await;
    let back = stored[0].position.0;
    assert_eq!(meant().await, told("first", back, 2));
    append(&*store, vec![of("second", 2), of("first", back)]).await;
    assert_eq!(meant().await, told("first", back, 2));
}

pub(super) async fn sessions_are_listed_as_the_log_tells_them(store: Arc<dyn Store>) {
    let mut life = Life::new();
    for round in 0..60 {
        live(&*store, &mut life).await;
        if round % 6 > 0 {
            continue;
        }
        let log = log(&*store).await;
        let model = Model(&log);
        let told = model.sessions();
        let of = |prefix: &str, number: usize| Some(format!("{prefix} {number}"));
        for active in [false, true] {
            let mut filters = vec![SessionFilter { active, ..SessionFilter::default() }];
            for number in 0..6 {
                let wants = || SessionFilter { active, ..SessionFilter::default() };
                filters.extend([
                    SessionFilter { service_identifier: of("service", number), ..wants() },
                    SessionFilter { customer_id: of("customer", number), ..wants() },
                    SessionFilter { conversation_id: of("conversation", number), ..wants() },
                    SessionFilter {
                        conversation_id: of("conversation", number),
                        customer_id: of("customer", round % 4),
                        ..wants()
                    },
                ]);
            }
            for (number, filter) in filters.into_iter().enumerate() {
                let wanted = told.iter().filter(|(session, _)| filter.matches(session));
                let mut wanted: Vec<_> = wanted.filter_map(|(session, _)| model.session_facts(&session.id)).collect();
                wanted.sort_unstable_by(|one, other| other.session.id.cmp(&one.session.id));
                assert_eq!(listed_sessions(&*store, &filter, 1 + number % 5).await, wanted, "{filter:?}");
            }
        }
        for (session, _) in told {
            assert_eq!(store.session(&session.id).await, Ok(model.session_facts(&session.id)));
        }
        assert_eq!(store.session("unknown").await, Ok(None));
    }
}

pub(super) async fn a_list_of_sessions_is_not_shifted_by_later_ones(store: Arc<dyn Store>) {
    let opened = async |number: u64| {
        let entry = Entry { session: Some(session(&format!("session {number}"), "c")), ..said(&number.to_string()) };
        append(&*store, vec![entry]).await;
    };
    for number in 3..6 {
        opened(number).await;
    }
    let all = SessionFilter::default();
    let first = store.sessions(&all, None, 2).await.expect("can be read");
    let ids = |page: &SessionPage| page.sessions.iter().map(|facts| facts.session.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&first), first.next.as_deref()), (vec!["session 5".into(), "session 4".into()], Some("session 4")));
    opened(6).await;
    // A later message of a session does not move it either.
    opened(3).await;
    let second = store.sessions(&all, first.next.as_deref(), 2).await.expect("can be read");
    assert_eq!((ids(&second), second.next), (vec!["session 3".into()], None));
    let none = store.sessions(&all, Some("session 3"), 2).await.expect("can be read");
    assert_eq!(none, SessionPage::default());
}

/// Every session that `filter` wants, read in pages of `limit`.
async fn listed_sessions(store: &dyn Store, filter: &SessionFilter, limit: usize) -> Vec<SessionFacts> {
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = store.sessions(filter, before.as_deref(), limit).await.expect("can be read");
        assert!(page.sessions.len() <= limit);
        listed.extend(page.sessions);
        before = match page.next {
            Some(next) => Some(next),
            None => return listed,
        };
    }
}

pub(super) async fn deliveries_are_listed_in_the_order_of_their_planning(store: Arc<dyn Store>) {
    let mut life = Life::open_handed();
    for _ in 0..200 {
        live(&*store, &mut life).await;
    }
    let log = log(&*store).await;
    let model = Model(&log);
    let known: Vec<_> = model.planned().into_iter().filter_map(|id| model.delivery(id)).collect();
    let lane = known.iter().find(|delivery| delivery.progress.is_open()).expect("life plans deliveries").lane;
    for (wanted, is_wanted) in [
        (Wanted::Open, &(|delivery: &Delivery| delivery.progress.is_open()) as &dyn Fn(&Delivery) -> bool),
        (Wanted::Dead, &|delivery| delivery.progress.state == DeliveryState::Failed),
        (Wanted::Lane(lane), &|delivery| delivery.progress.is_open() && delivery.lane == lane),
        (Wanted::Lane(lane ^ 1), &|_| false),
    ] {
        let expected: Vec<_> = known.iter().filter(|delivery| is_wanted(delivery)).cloned().collect();
        for page in [1, 3, 1000] {
            assert_eq!(listed(&*store, wanted, page).await, expected, "{wanted:?} by pages of {page}");
        }
    }
    assert!(known.iter().any(|delivery| delivery.progress.state == DeliveryState::Failed));
}

/// All deliveries that are wanted, by pages.
async fn listed(store: &dyn Store, wanted: Wanted, page: usize) -> Vec<Delivery> {
    let mut listed = Vec::new();
    let mut after = DeliveryId::NONE;
    loop {
        let Deliveries { found, reached } = store.deliveries(after, wanted, page).await.expect("can be listed");
        assert!(found.len() <= page && reached >= after);
        assert!(found.iter().all(|delivery| after < delivery.id && delivery.id <= reached));
        listed.extend(found);
        if reached >= DeliveryId::last_of(store.span().end) {
            return listed;
        }
        assert!(reached > after, "a list goes on");
        after = reached;
    }
}

pub(super) async fn a_settled_delivery_is_listed_no_more(store: Arc<dyn Store>) {
    let both = [Endpoint::Connector, Endpoint::Bot];
    let stored = append(&*store, vec![planning(said("a"), &both)]).await;
    let ids = both.map(|endpoint| DeliveryId { planned_at: stored[0].position, endpoint });
    let open = |store: Arc<dyn Store>| async move {
        let found = listed(&*store, Wanted::Open, 10).await;
        found.iter().map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(open(store.clone()).await, ids);
    let entry = store.entry(stored[0].position).await.expect("can be read").expect("is kept");
    assert_eq!(message_of(&entry.entry), stored[0].entry.message.as_deref());
    append(&*store, vec![Entry { delivery_steps: vec![step(ids[0], DeliveryState::Delivered)], ..Entry::default() }]).await;
    assert_eq!(open(store.clone()).await, ids[1..]);
    append(&*store, vec![Entry { delivery_steps: vec![step(ids[1], DeliveryState::Parked)], ..Entry::default() }]).await;
    assert_eq!(open(store.clone()).await, ids[1..]);
    append(&*store, vec![Entry { delivery_steps: vec![step(ids[1], DeliveryState::Discarded)], ..Entry::default() }]).await;
    assert_eq!(open(store).await, []);
}

pub(super) async fn what_tells_of_an_entry_is_found(store: Arc<dyn Store>) {
    let sequel = async |position: u64, limit: usize| {
        let found = store.sequel(Position(position), limit).await.expect("can be read");
        found.into_iter().map(|position| position.0).collect::<Vec<_>>()
    };
    append(&*store, vec![planning(said("m"), &[Endpoint::Connector]), said("other")]).await;
    assert_eq!(sequel(1, 9).await, [0; 0]);
    let id = DeliveryId { planned_at: Position(1), endpoint: Endpoint::Connector };
    let stepped = |state| Entry { delivery_steps: vec![step(id, state)], ..Entry::default() };
    append(&*store, vec![stepped(DeliveryState::Parked), said("more"), stepped(DeliveryState::Failed)]).await;
    assert_eq!(sequel(1, 9).await, [3, 5]);
    assert_eq!(sequel(1, 1).await, [3]);
    let mut again = planning(stepped(DeliveryState::Discarded), &[Endpoint::Connector]);
    again.deliveries[0].message = 1;
    append(&*store, vec![again, receipt("w", "p", None)]).await;
    append(&*store, vec![Entry { about: 1, earlier: 7, ..receipt("r", "m", Some("p")) }]).await;
    append(&*store, vec![receipt("w1", "q", None), Entry { earlier: 9, ..receipt("w2", "q", None) }]).await;
    assert_eq!(sequel(1, 9).await, [3, 5, 6, 7, 8]);
    assert_eq!(sequel(10, 9).await, [9]);
    for none in [0, 2, 5, 9, 11, u64::MAX] {
        assert_eq!(sequel(none, 9).await, [0; 0], "{none}");
    }
}

pub(super) async fn a_notification_goes_by_its_providers_id(store: Arc<dyn Store>) {
    append(&*store, vec![on_channel(said("m"), Some("p0")), receipt("early", "p1", Some("p1"))]).await;
    append(&*store, vec![Entry { about: 1, ..receipt("tied", "m", Some("p2")) }]).await;
    append(&*store, vec![Entry { about: 1, ..receipt("plain", "m", Some("m")) }]).await;
    let named = async |name: Name<'_>| {
        let found = look(&*store, |facts| facts.named(name)).await;
        found.map(|named| (named.position.0, named.waits))
    };
    let provider = |id| Name::Provider { service_identifier: "service", id };
    assert_eq!(named(provider("p0")).await, Some((1, false)));
    assert_eq!(named(provider("p1")).await, Some((2, true)));
    assert_eq!(named(provider("p2")).await, Some((3, false)));
    assert_eq!(named(provider("m")).await, None, "what goes by the gateway's id needs no other name");
    assert_eq!(named(Name::Message("p0")).await, None);
    assert_eq!(named(Name::Provider { service_identifier: "other", id: "p0" }).await, None);
    assert!(store.message("p0").await.expect("can be read").is_none());
    assert!(!store.claim("p0", b"").await.expect("can be claimed").taken);
}

pub(super) async fn a_message_goes_by_the_providers_id_that_a_step_of_its_delivery_tells(store: Arc<dyn Store>) {
    let id = DeliveryId { planned_at: Position(1), endpoint: Endpoint::Connector };
    let session = Session { service_identifier: "service".into(), ..session("s", "c") };
    append(&*store, vec![planning(Entry { session: Some(session.clone()), ..said("m") }, &[Endpoint::Connector])]).await;
    let step = DeliveryStep { provider_message_id: "p".into(), ..step(id, DeliveryState::Accepted) };
    let tells = Entry { delivery_steps: vec![step], session: Some(session.clone()), about: 1, ..Entry::default() };
    append(&*store, vec![tells, said("later")]).await;
    let named = async |name: Name<'_>| look(&*store, |facts| facts.named(name)).await;
    let found = named(Name::Provider { service_identifier: "service", id: "p" }).await.expect("is known");
    assert_eq!((found.position, found.waits, found.session.as_deref()), (Position(1), false, Some(&session)));
    assert_eq!(named(Name::Provider { service_identifier: "other", id: "p" }).await, None);
    assert_eq!(named(Name::Message("p")).await, None);
    assert_eq!(store.sequel(Position(1), 9).await.expect("can be read"), [Position(2)]);
}

// Retention

pub(super) async fn reading_what_is_gone_tells_the_oldest_that_is_kept(store: Arc<dyn Store>) {
    overflow(&*store).await;
    let span = store.span();
    assert!(span.oldest > Position(1), "a cramped engine keeps everything");
    for after in [0, span.oldest.0 - 2] {
        let expired = Error::Expired { asked: Position(after + 1), oldest: span.oldest };
        assert_eq!(store.read(Position(after), ALL).await.map(|read| read.len()), Err(expired));
    }
    let read = store.read(span.oldest.previous(), ALL).await.expect("the oldest is kept");
    assert_eq!(read.first().map(|stored| stored.position), Some(span.oldest));
    assert_eq!(read.last().map(|stored| stored.position), Some(span.end));
}

pub(super) async fn what_is_gone_is_found_in_no_way(store: Arc<dyn Store>) {
    // An engine may keep a session that goes on longer than the messages that it had.
    let mut gone = belonging("gone", "gone");
    gone.session.get_or_insert_default().ended_at = Some(Timestamp::from(SystemTime::now()));
    append(&*store, vec![belonging("first", "c"), gone]).await;
    overflow(&*store).await;
    append(&*store, vec![belonging("last", "c")]).await;
    assert!(store.message("first").await.expect("can be read").is_none());
    assert!(!store.claim("first", b"").await.expect("can be claimed").taken);
    let last = store.span().end.0;
    assert_eq!(history(&*store, "c", None, 9).await.expect("is known"), [last]);
    assert!(history(&*store, "gone", None, 9).await.is_none());
}

pub(super) async fn a_time_before_all_that_is_kept_leads_to_the_oldest(store: Arc<dyn Store>) {
    overflow(&*store).await;
    assert_eq!(store.before(Timestamp::default()).await, Ok(store.span().oldest.previous()));
}

/// Such a delivery would be open for ever.
pub(super) async fn nothing_is_planned_of_a_message_that_is_gone(store: Arc<dyn Store>) {
    let dead = append(&*store, vec![planning(said("dead"), &[Endpoint::Connector])]).await.remove(0);
    let id = DeliveryId { planned_at: dead.position, endpoint: Endpoint::Connector };
    append(&*store, vec![redriving(id, dead.position, said("again"))]).await;
    overflow(&*store).await;
    assert!(store.entry(dead.position).await.expect("can be asked for").is_none(), "a cramped engine keeps everything");
    let end = store.span().end;
    let frame = vec![said("before"), redriving(id, dead.position, said("too late"))];
    let refused = store.append(None, Box::new(|_| Ok(frame))).await;
    assert!(matches!(refused, Err(AppendError::Store(Error::Expired { asked, .. })) if asked == dead.position), "{refused:?}");
    assert_eq!(append(&*store, vec![said("after")]).await[0].position, end.next(), "it leaves nothing behind");
}

/// Appends more than a cramped engine keeps.
async fn overflow(store: &dyn Store) {
    for i in 0..100 {
        append(store, vec![said(&format!("overflow-{i}"))]).await;
    }
}

// What the rules are told with

/// An entry of no session.
pub(super) fn said(id: &str) -> Entry {
    let message = pb::CimMessage { id: Some(id.to_owned()), ..pb::CimMessage::default() };
    Entry { message: Some(message.into()), ..Entry::default() }
}

/// An entry that has another id than its client sent.
fn renewed(id: &str, sent: &str) -> Entry {
    let submission = Submission { id: sent.to_owned(), ..Submission::default() };
    Entry { submission: Some(submission.into()), ..said(id) }
}

/// An entry of a conversation.
pub(super) fn belonging(id: &str, conversation: &str) -> Entry {
    Entry { session: Some(session(&format!("session of {conversation}"), conversation)), ..said(id) }
}

/// The entry, to be delivered to these endpoints.
pub(super) fn planning(entry: Entry, endpoints: &[Endpoint]) -> Entry {
    let delivery = |endpoint: &Endpoint| pb::store::Delivery {
        channel_id: "channel".into(),
        endpoint: (*endpoint).into(),
        ..pb::store::Delivery::default()
    };
    Entry { deliveries: endpoints.iter().map(delivery).collect(), ..entry }
}

/// The entry, which also redrives a delivery of the message at a position.
pub(super) fn redriving(dead: DeliveryId, message: Position, entry: Entry) -> Entry {
    let mut entry = planning(entry, &[dead.endpoint]);
    entry.deliveries[0].message = message.0;
    Entry { delivery_steps: vec![step(dead, DeliveryState::Discarded)], ..entry }
}

pub(super) fn step(id: DeliveryId, state: DeliveryState) -> DeliveryStep {
    let (planned_at, endpoint) = (id.planned_at.0, id.endpoint.into());
    DeliveryStep { planned_at, endpoint, state: state.into(), ..DeliveryStep::default() }
}

fn session(id: &str, conversation: &str) -> Session {
    Session { id: id.to_owned(), conversation_id: conversation.to_owned(), ..Session::default() }
}

pub(super) async fn append(store: &dyn Store, frame: Frame) -> Vec<Stored> {
    if frame.is_empty() {
        return Vec::new();
    }
    store.append(None, Box::new(|_| Ok(frame))).await.expect("can be appended")
}

/// Appends the next frame of a life, which learns of it.
pub(super) async fn live(store: &dyn Store, life: &mut Life) {
    let stored = store.append(None, Box::new(|facts| Ok(life.frame_on(facts)))).await;
    life.learn(&stored.expect("can be appended"));
}

/// All that is kept.
pub(super) async fn log(store: &dyn Store) -> Vec<Stored> {
    store.read(store.span().oldest.previous(), ALL).await.expect("can be read")
}

/// What `answer` finds in the facts.
pub(super) async fn look<T: Send>(store: &dyn Store, answer: impl Fn(&dyn Facts) -> T + Send + Sync) -> T {
    let mut found = None;
    let stage = Box::new(|facts: &dyn Facts| {
        found = Some(answer(facts));
        Err(Violations::default())
    });
    assert!(matches!(store.append(None, stage).await, Err(AppendError::Refused(_))));
    found.expect("the stage has run")
}

pub(super) async fn history(store: &dyn Store, conversation: &str, before: Option<Position>, limit: usize) -> Option<Vec<u64>> {
    let page = store.history(conversation, before, limit).await.expect("can be read")?;
    Some(page.iter().map(|stored| stored.position.0).collect())
}

fn ids(entries: &[Stored]) -> Vec<&str> {
    entries.iter().map(Stored::id).collect()
}

fn key(time: &Option<Timestamp>) -> (i64, i32) {
    time.map_or((0, 0), |time| (time.seconds, time.nanos))
}

fn header(stored: &Stored) -> Option<&pb::Header> {
    stored.entry.message.as_ref()?.header.as_ref()
}

fn service_identifier(stored: &Stored) -> Option<&str> {
    header(stored)?.channel_data.as_ref()?.service_identifier.as_deref()
}

fn provider_id(stored: &Stored) -> Option<&str> {
    header(stored)?.provider_message_id.as_deref()
}

/// Which message a delivery notification says that it is about.
fn reported_id(stored: &Stored) -> Option<&str> {
    match stored.entry.message.as_ref()?.body.as_ref()?.kind.as_ref()? {
        Kind::DeliveryNotification(notification) => notification.message_id.as_deref(),
        _ => None,
    }
}

/// A delivery notification, on the channel `service`.
fn receipt(id: &str, reported: &str, provider_id: Option<&str>) -> Entry {
    let mut entry = on_channel(said(id), provider_id);
    let kind = pb::DeliveryNotificationBody { message_id: Some(reported.into()), ..pb::DeliveryNotificationBody::default() };
    let body = pb::Body { kind: Some(Kind::DeliveryNotification(kind)), ..pb::Body::default() };
    entry.message.get_or_insert_default().body = Some(body);
    entry
}

/// The entry, on the channel `service` and with an id of its provider's.
fn on_channel(mut entry: Entry, provider_id: Option<&str>) -> Entry {
    let header = entry.message.get_or_insert_default().header.get_or_insert_default();
    header.channel_data.get_or_insert_default().service_identifier = Some("service".into());
    header.provider_message_id = provider_id.map(str::to_owned);
    entry
}
