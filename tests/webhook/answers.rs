//! What comes back, and within which bounds.

use crate::support::*;
use cim_gateway::webhook::{Client, Failure, Part, Settings};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn too_large(part: Part, status: Option<u16>) -> Failure {
    Failure::TooLarge { part, status }
}

#[tokio::test]
async fn an_answer_has_its_status_its_body_and_how_long_to_wait() {
    let receiver = Receiver::saying("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nlater").await;
    let answer = post(&client(), &receiver.url()).await.unwrap();
    assert_eq!((answer.status, answer.retry_after, &answer.body[..]), (503, Some(Duration::from_secs(7)), &b"later"[..]));
}

#[tokio::test]
async fn every_status_is_an_answer() {
    for status in [101, 200, 202, 204, 301, 400, 401, 404, 410, 429, 500, 504, 599] {
        let receiver = Receiver::saying(format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(post(&client(), &receiver.url()).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn an_answer_does_not_show_its_body() {
    let receiver = Receiver::saying("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret").await;
    let answer = post(&client(), &receiver.url()).await.unwrap();
    assert!(format!("{answer:?}").starts_with("Answer { status: 200, retry_after: None, body_bytes: 6, duration: "));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::kind().await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://127.0.0.1:{}/", elsewhere.port());
        let redirect = format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let receiver = Receiver::saying(redirect).await;
        assert_eq!(post(&client(), &receiver.url()).await.unwrap().status, status);
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test]
async fn a_body_ends_by_its_length_its_last_chunk_or_the_connection() {
    for rest in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "\r\nhello"]
    {
        let receiver = Receiver::saying(format!("HTTP/1.1 200 OK\r\n{rest}")).await;
        assert_eq!(&post(&client(), &receiver.url()).await.unwrap().body[..], b"hello", "{rest}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 x\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::saying(interim).await;
    assert_eq!(post(&client(), &receiver.url()).await.unwrap().status, 201);
}

#[tokio::test]
async fn a_body_may_have_the_most_bytes_and_none_more() {
    let client = Client::new(Settings { max_response: 1000, ..settings() }).unwrap();
    for (length, fits) in [(1000, true), (1001, false)] {
        let body = "x".repeat(length);
        let by_length = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let in_chunks = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        for bytes in [by_length, in_chunks] {
            let receiver = Receiver::saying(bytes).await;
            let got = post(&client, &receiver.url()).await.map(|answer| answer.body.len());
            let expected = if fits { Ok(1000) } else { Err(too_large(Part::Body, Some(200))) };
            assert_eq!(got, expected);
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        read_request(&mut stream).await;
        let mut going = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while going.is_ok() {
            going = stream.write_all(&[b'x'; 65536]).await;
        }
    })
    .await;
    assert_eq!(post(&client(), &receiver.url()).await, Err(too_large(Part::Body, Some(200))));
}

#[tokio::test]
async fn a_head_has_bounds_of_bytes() {
    let client = Client::new(Settings { max_response_head: 8 * 1024, ..settings() }).unwrap();
    for (length, fits) in [(7 * 1024, true), (8 * 1024, false)] {
        let value = "x".repeat(length);
        let receiver = Receiver::saying(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: {value}\r\n\r\n")).await;
        let got = post(&client, &receiver.url()).await.map(|answer| answer.status);
        assert_eq!(got, if fits { Ok(200) } else { Err(too_large(Part::Head, None)) });
    }
}

#[tokio::test]
async fn an_endless_header_is_cut_off() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        read_request(&mut stream).await;
        let mut going = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while going.is_ok() {
            going = stream.write_all(&[b'x'; 1024]).await;
        }
    })
    .await;
    assert_eq!(post(&client(), &receiver.url()).await, Err(too_large(Part::Head, None)));
}

#[tokio::test]
async fn a_head_has_a_bound_of_headers() {
    let client = Client::new(Settings { max_response_headers: 10, ..settings() }).unwrap();
    for (count, fits) in [(10, true), (11, false)] {
        let headers = (1..count).fold(String::new(), |headers, n| format!("{headers}x-{n}: y\r\n"));
        let receiver = Receiver::saying(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{headers}\r\n")).await;
        let got = post(&client, &receiver.url()).await.map(|answer| answer.status);
        assert_eq!(got, if fits { Ok(200) } else { Err(too_large(Part::Head, None)) });
    }
}
