//! Browsers: gRPC-Web over HTTP/1.1, and who may use it.

use crate::support::gateway::Gateway;
use crate::support::messages::{earliest, hello};
use crate::support::raw::{Raw, framed, path};
use crate::support::soon;
use cim_gateway::pb::{CimMessage, SendMessageRequest, SendMessageResponse};
use http_body_util::Full;
use prost::Message as _;
use tonic::codegen::http::Request;
use tower::ServiceExt as _;

/// Head and body of the answer to an HTTP/1.1 request.
async fn answer(gateway: &Gateway, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut raw = Raw::to(gateway.grpc).await;
    let length = body.len();
    let head = format!("{head}host: gateway\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    raw.send(&[head.as_bytes(), body].concat()).await;
    let answer = raw.rest().await;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(&answer[end..]) } else { answer[end..].to_vec() };
    (head, body)
}

fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|bytes| bytes == b"\r\n").expect("a chunk says how long it is");
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).expect("ASCII"), 16).expect("a number");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[line + 2..line + 2 + length]);
        chunks = &chunks[line + 2 + length + 2..];
    }
}

/// Head, messages and trailers of a gRPC-Web call.
async fn call(gateway: &Gateway, origin: &str, message: Option<CimMessage>) -> (String, Vec<Vec<u8>>, String) {
    let path = path("SendMessage");
    let head =
        format!("POST {path} HTTP/1.1\r\norigin: {origin}\r\ncontent-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n");
    let (head, mut body) =
        answer(gateway, &head, &framed(&SendMessageRequest { message, delivery_wait: None }.encode_to_vec())).await;
    let mut messages = Vec::new();
    const TRAILERS: u8 = 0x80;
    while !body.is_empty() {
        let rest = body.split_off(5 + u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize);
        let frame = std::mem::replace(&mut body, rest);
        if frame[0] == TRAILERS {
            return (head, messages, String::from_utf8_lossy(&frame[5..]).into_owned());
        }
        messages.push(frame[5..].to_vec());
    }
    // A call that only fails may have its status in the head.
    (head.clone(), messages, head)
}

const DESK: &str = "https://desk.example.org";

#[tokio::test]
async fn a_page_sends_a_message_over_http_1() {
    let gateway = Gateway::start().await;
    let (head, messages, trailers) = call(&gateway, DESK, Some(hello("from a page"))).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/grpc-web+proto"), "{head}");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    let response = SendMessageResponse::decode(&messages[0][..]).unwrap();
    let client = gateway.client().await;
    assert_eq!(client.message(&response.message_id).await.unwrap().cursor, response.cursor);
    let (_, messages, trailers) = call(&gateway, DESK, None).await;
    assert!(messages.is_empty());
    assert!(trailers.replace(' ', "").contains("grpc-status:3"), "{trailers}");
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "from a page"]);
}

#[tokio::test]
async fn other_http_1_requests_are_refused() {
    let gateway = Gateway::start().await;
    let path = path("SendMessage");
    for request in [format!("GET {path} HTTP/1.1\r\n"), format!("POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n")] {
        let (head, _) = answer(&gateway, &request, b"").await;
        assert!(head.starts_with("http/1.1 4"), "{head}");
    }
}

/// A browser sends a POST for a page of any site, without asking the gateway first, as long as that says of its body what a form could.
#[tokio::test]
async fn what_any_page_can_send_is_no_call() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let forged = framed(&SendMessageRequest { message: Some(hello("forged")), delivery_wait: None }.encode_to_vec());
    for content_type in [None, Some("text/plain"), Some("text/plain;application/grpc"), Some("application/x-www-form-urlencoded")]
    {
        let request = Request::post(format!("http://{}{}", gateway.grpc, path("SendMessage")));
        let request =
            content_type.into_iter().fold(request, |request, content_type| request.header("content-type", content_type));
        let request = request.body(tonic::body::Body::new(Full::from(forged.clone()))).unwrap();
        let answer = soon("an answer", client.channel.clone().oneshot(request)).await.unwrap();
        assert_eq!(answer.status(), 415, "{content_type:?}");
    }
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED"]);
}

async fn preflight(gateway: &Gateway, origin: &str) -> String {
    let path = path("SendMessage");
    let head = format!(
        "OPTIONS {path} HTTP/1.1\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-grpc-web\r\n"
    );
    answer(gateway, &head, b"").await.0
}

#[tokio::test]
async fn pages_of_allowed_origins_and_no_others_may_call() {
    let allowing = Gateway::set("grpc.cors.allowed_origins", format!("[{DESK:?}]")).start().await;
    let head = preflight(&allowing, DESK).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in [
        "access-control-allow-origin: https://desk.example.org",
        "access-control-allow-methods: post",
        "access-control-allow-headers: content-type,x-grpc-web",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    let (head, _, _) = call(&allowing, DESK, Some(hello("hi"))).await;
    assert!(head.contains("access-control-allow-origin: https://desk.example.org"), "{head}");
    assert!(head.contains("access-control-expose-headers: grpc-status,grpc-message,grpc-status-details-bin"), "{head}");
    let elsewhere = preflight(&allowing, "https://elsewhere.example.org").await;
    assert!(!elsewhere.contains("access-control-allow-origin"), "{elsewhere}");

    let any = Gateway::set("grpc.cors.allowed_origins", r#"["*"]"#).start().await;
    assert!(preflight(&any, DESK).await.contains("access-control-allow-origin: *"));

    let default = Gateway::start().await;
    let head = preflight(&default, DESK).await;
    assert!(!head.contains("access-control-"), "{head}");
    let (head, _, _) = call(&default, DESK, Some(hello("hi"))).await;
    assert!(!head.contains("access-control-"), "{head}");
}
