//! Channel sessions: looked up, listed, ended by hand.

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, after, said, says};
use crate::support::{assert_refused, complaints, soon};
use cim_gateway::pb::session_service_client::SessionServiceClient;
use cim_gateway::pb::{
    EndSessionRequest, EndSessionResponse, GetSessionRequest, ListSessionsRequest, ListSessionsResponse, Session,
    SessionEndReason,
};
use tonic::{Code, Status};

async fn try_list(client: &Client, request: ListSessionsRequest) -> Result<ListSessionsResponse, Status> {
    let mut calls = SessionServiceClient::new(client.channel.clone());
    soon("a list of sessions", calls.list_sessions(request)).await.map(tonic::Response::into_inner)
}

/// All sessions of a request, read in pages of its size.
async fn list(client: &Client, mut request: ListSessionsRequest) -> Vec<Session> {
    let mut sessions = Vec::new();
    loop {
        let page = try_list(client, request.clone()).await.expect("can be listed");
        sessions.extend(page.sessions);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return sessions;
        }
    }
}

pub(crate) async fn session(client: &Client, id: &str) -> Result<Session, Status> {
    let mut calls = SessionServiceClient::new(client.channel.clone());
    let answer = soon("a session", calls.get_session(GetSessionRequest { session_id: id.into() })).await?;
    Ok(answer.into_inner().session.expect("an answer holds the session"))
}

async fn end(client: &Client, id: &str, reason: SessionEndReason) -> Result<EndSessionResponse, Status> {
    let mut calls = SessionServiceClient::new(client.channel.clone());
    let request = EndSessionRequest { session_id: id.into(), reason: reason.into() };
    soon("an end", calls.end_session(request)).await.map(tonic::Response::into_inner)
}

fn addresses(sessions: &[Session]) -> Vec<&str> {
    sessions.iter().map(|session| session.channel_customer_identifier.as_str()).collect()
}

#[tokio::test]
async fn sessions_are_listed_the_last_opened_first_by_what_they_have() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let ada = client.send(says("shop", "ada", "1")).await;
    client.send(says("shop", "bob", "2")).await;
    client.send(says("desk", "eve", "3")).await;
    client.send(says("shop", "bob", "bye").with_intent("END_CHAT")).await;
    // A later message does not move its session.
    client.send(says("shop", "ada", "4")).await;
    for page_size in [0, 1, 2] {
        let with = |request: ListSessionsRequest| ListSessionsRequest { page_size, ..request };
        assert_eq!(addresses(&list(&client, with(ListSessionsRequest::default())).await), ["eve", "bob", "ada"]);
        let active = ListSessionsRequest { active_only: true, ..Default::default() };
        assert_eq!(addresses(&list(&client, with(active.clone())).await), ["eve", "ada"]);
        let in_shop = ListSessionsRequest { service_identifier: "shop".into(), ..Default::default() };
        assert_eq!(addresses(&list(&client, with(in_shop)).await), ["bob", "ada"]);
        let of_ada = ListSessionsRequest { conversation_id: ada.conversation_id.clone(), ..active };
        assert_eq!(addresses(&list(&client, with(of_ada.clone())).await), ["ada"]);
        let customer_id = session(&client, &ada.channel_session_id).await.unwrap().customer_id;
        let by_customer = ListSessionsRequest { customer_id, ..Default::default() };
        assert_eq!(addresses(&list(&client, with(by_customer)).await), ["ada"]);
        let nobody = ListSessionsRequest { customer_id: "nobody".into(), ..of_ada };
        assert_eq!(list(&client, with(nobody)).await, []);
    }
}

#[tokio::test]
async fn a_session_that_is_ended_by_hand_tells_both_sides_and_stays_ended_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let gateway = Gateway::set("store.embedded.data_dir", &data).start().await;
    let client = gateway.client().await;
    let opened = client.send(says("shop", "ada", "hello")).await;
    let active = session(&client, &opened.channel_session_id).await.unwrap();
    assert_eq!((active.ended_at, active.end_reason()), (None, SessionEndReason::Unspecified));
    let ended = end(&client, &opened.channel_session_id, SessionEndReason::Unspecified).await.unwrap();
    assert!(!ended.already_ended);
    let ended = ended.session.unwrap();
    assert_eq!((ended.end_reason(), ended.ended_at.is_some()), (SessionEndReason::ForceClosed, true));
    let again = end(&client, &opened.channel_session_id, SessionEndReason::Agent).await.unwrap();
    assert_eq!((again.already_ended, again.session.as_ref()), (true, Some(&ended)));
    let next = client.send(says("shop", "ada", "hello?")).await;
    assert_ne!(next.channel_session_id, opened.channel_session_id);
    let mut events = client.subscribe(after(&opened.cursor)).await;
    let notice = events.message().await;
    assert_eq!((said(&notice).as_str(), notice.audiences.len()), ("CHANNEL_SESSION_ENDED", 2));
    assert_eq!([events.said().await, events.said().await], ["CHANNEL_SESSION_STARTED", "hello?"]);
    drop((events, client));
    gateway.stop().down().await;

    let gateway = Gateway::set("store.embedded.data_dir", &data).start().await;
    let client = gateway.client().await;
    assert_eq!(session(&client, &opened.channel_session_id).await.unwrap(), ended);
    let active = list(&client, ListSessionsRequest { active_only: true, ..Default::default() }).await;
    assert_eq!(active.iter().map(|session| session.id.as_str()).collect::<Vec<_>>(), [next.channel_session_id]);
}

#[tokio::test]
async fn what_cannot_be_listed_or_ended_is_refused_and_named() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let negative = try_list(&client, ListSessionsRequest { page_size: -1, ..Default::default() }).await.unwrap_err();
    assert_eq!(complaints(&negative), [("page_size".to_owned(), String::new())]);
    for status in [session(&client, "").await.unwrap_err(), end(&client, "", SessionEndReason::Agent).await.unwrap_err()] {
        assert_eq!(complaints(&status), [("session_id".to_owned(), String::new())]);
    }
    for status in [session(&client, "lost").await.unwrap_err(), end(&client, "lost", SessionEndReason::Agent).await.unwrap_err()]
    {
        assert_refused(&status, Code::NotFound, "SESSION_NOT_FOUND");
    }
    let mut calls = SessionServiceClient::new(client.channel.clone());
    let unknown = calls.end_session(EndSessionRequest { session_id: "lost".into(), reason: 6 }).await.unwrap_err();
    assert_eq!(complaints(&unknown), [("reason".to_owned(), String::new())]);
}
