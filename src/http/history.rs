//! Accepted messages read back: one by its id, or a conversation's, newest first.

use super::admission::Calling;
use super::problem::Problem;
use super::query::{self, Query, invalid};
use super::{Id, Routes, Settings, json, read_id, timeline, view};
use crate::error::Error;
use crate::inbox::Inbox;
use crate::store::{Cursor, Position, Span};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

/// Messages on a page where the client does not say.
const PAGE: usize = 50;

#[derive(Debug, Clone)]
struct Archive {
    inbox: Inbox,
    largest_page: usize,
}

pub(super) fn routes(inbox: Inbox, settings: &Settings) -> Routes {
    let archive = Archive { inbox: inbox.clone(), largest_page: settings.history_page };
    vec![
        ("/v1/messages/{messageId}", get(message).with_state(inbox)),
        ("/v1/conversations/{conversationId}/messages", get(conversation).with_state(archive)),
    ]
}

async fn message(State(inbox): State<Inbox>, Extension(caller): Calling, id: Id, query: query::Raw) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    let stored = inbox.seen(&caller, &read_id("messageId", id)?).await?;
    let timeline = inbox.timeline(&stored).await?;
    let mut body = Vec::new();
    view::write(&mut body, &stored, inbox.store().span().cursor(stored.position));
    // Instead of the brace that closes the message's object.
    if let Some(brace) = body.last_mut() {
        *brace = b',';
    }
    timeline::write(&mut body, &timeline, inbox.store().number());
    Ok(json(body))
}

async fn conversation(
    State(archive): State<Archive>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
) -> Result<Response, Problem> {
    caller.may_read_all("conversations")?;
    let query = Query::read(query, &["pageSize", "pageToken"])?;
    let size = query.number("pageSize", 1..=archive.largest_page)?.unwrap_or(PAGE.min(archive.largest_page));
    let span = archive.inbox.store().span();
    let after = query.one("pageToken")?.map(|token| page_end(token, &span)).transpose()?;
    let page = archive.inbox.history(&read_id("conversationId", id)?, after, size).await?;

    let mut body = b"{\"messages\":[".to_vec();
    for (i, stored) in page.messages.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        view::write(&mut body, stored, span.cursor(stored.position));
    }
    body.extend_from_slice(b"],\"nextPageToken\":");
    body.append(&mut view::json(&page.next.map(|position| span.cursor(position).to_string())));
    body.push(b'}');
    Ok(json(body))
}

/// Where the page before ended, from its token.
fn page_end(token: &str, span: &Span) -> Result<Position, Error> {
    let problem = "needs a nextPageToken that this gateway gave out";
    let cursor: Cursor = token.parse().map_err(|_| invalid("pageToken", problem))?;
    if cursor.epoch == span.epoch {
        Ok(cursor.position)
    } else {
        Err(Error::CursorUnknown { oldest: span.cursor(span.oldest.previous()) })
    }
}
