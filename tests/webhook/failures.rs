//! What goes wrong on the way, each kind told from the others.

use crate::support::*;
use cim_gateway::webhook::{Client, Failure, Resolve, Settings};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn timed_out(status: Option<u16>) -> Failure {
    Failure::ResponseTimeout { after: SHORT, status }
}

#[tokio::test]
async fn a_port_where_nobody_listens_cannot_be_reached() {
    let failure = post(&client(), &nobody()).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect { .. }), "{failure:?}");
    insta::assert_snapshot!(failure, @"the receiver cannot be reached: Connection refused (os error 111)");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_resolved() {
    let failure = post(&client(), &url("http://nowhere.invalid/")).await.unwrap_err();
    assert!(matches!(failure, Failure::Dns { .. }), "{failure:?}");
}

/// A name server that is not there, or says that there is nothing.
#[derive(Debug)]
enum NameServer {
    Dead,
    Empty,
}

#[async_trait::async_trait]
impl Resolve for NameServer {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Dead => std::future::pending().await,
            Self::Empty => Ok(Vec::new()),
        }
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_not_resolved() {
    let client = Client::with_resolver(settings(), Arc::new(NameServer::Empty)).unwrap();
    let failure = post(&client, &url("http://a.example/")).await.unwrap_err();
    assert_eq!(failure, Failure::Dns { cause: "it has no address".into() });
}

#[tokio::test]
async fn a_name_server_that_does_not_answer_takes_the_time_to_connect_only() {
    let hasty = Settings { connect_timeout: SHORT, ..settings() };
    let client = Client::with_resolver(hasty, Arc::new(NameServer::Dead)).unwrap();
    let failure = post(&client, &url("http://a.example/")).await;
    assert_eq!(failure, Err(Failure::ConnectTimeout { after: SHORT }));
}

#[tokio::test]
async fn a_port_that_takes_no_connection_takes_the_time_to_connect_only() {
    let full = Full::new().await;
    let client = Client::new(Settings { connect_timeout: SHORT, ..settings() }).unwrap();
    let failure = post(&client, &full.url()).await.unwrap_err();
    assert_eq!(failure, Failure::ConnectTimeout { after: SHORT });
    insta::assert_snapshot!(failure, @"the receiver cannot be reached within 1s");
}

#[tokio::test]
async fn a_server_that_does_not_agree_on_tls_takes_the_time_to_connect_only() {
    let receiver = Receiver::doing(|mut stream, _| async move { closed(&mut stream).await }).await;
    let client = Client::new(Settings { connect_timeout: SHORT, ..settings() }).unwrap();
    assert_eq!(post(&client, &receiver.https()).await, Err(Failure::ConnectTimeout { after: SHORT }));
}

/// Nothing was written, so it is no timeout of the receiver, although the time of the whole attempt ran out.
#[tokio::test]
async fn an_attempt_that_ends_while_it_connects_has_not_reached_anybody() {
    let receiver = Receiver::doing(|mut stream, _| async move { closed(&mut stream).await }).await;
    assert_eq!(post(&hasty(), &receiver.https()).await, Err(Failure::ConnectTimeout { after: SHORT }));
}

#[tokio::test]
async fn a_receiver_that_never_answers_times_out() {
    let receiver = Receiver::doing(|mut stream, _| async move { closed(&mut stream).await }).await;
    assert_eq!(post(&hasty(), &receiver.url()).await, Err(timed_out(None)));
}

#[tokio::test]
async fn a_receiver_that_never_reads_times_out() {
    let receiver = Receiver::doing(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let large = vec![b'x'; 64 * 1024 * 1024];
    assert_eq!(post_body(&hasty(), &receiver.url(), large).await, Err(timed_out(None)));
}

#[tokio::test]
async fn an_attempt_has_the_time_that_its_caller_says() {
    let receiver = Receiver::doing(|mut stream, _| async move { closed(&mut stream).await }).await;
    let failure = post_within(&client(), &receiver.url(), "{}", Some(SHORT)).await.unwrap_err();
    assert_eq!(failure, timed_out(None));
    insta::assert_snapshot!(failure, @"the receiver did not answer within 1s");
}

/// Every byte comes in time, and the answer never does.
#[tokio::test]
async fn an_answer_that_drips_does_not_outlive_the_timeout() {
    for (beginning, status) in [("HTTP/1.1 200 OK\r\nx: ", None), ("HTTP/1.1 200 OK\r\n\r\n", Some(200))] {
        let receiver = Receiver::doing(move |mut stream, _| async move {
            read_request(&mut stream).await;
            let mut going = stream.write_all(beginning.as_bytes()).await;
            while going.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                going = stream.write_all(b"x").await;
            }
        })
        .await;
        assert_eq!(post(&hasty(), &receiver.url()).await, Err(timed_out(status)));
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_after_the_request_is_told_so() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let failure = post(&client(), &receiver.url()).await.unwrap_err();
    assert!(matches!(failure, Failure::Reset { status: None, .. }), "{failure:?}");
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_does_is_told_so() {
    let ends = [
        ("", None),
        ("HTTP/1.1 200 OK\r\nContent-Le", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Some(200)),
        ("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Some(500)),
    ];
    for (bytes, status) in ends {
        let receiver = Receiver::saying(bytes).await;
        let failure = post(&client(), &receiver.url()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Reset { status: told, .. } if *told == status), "{bytes:?}: {failure:?}");
    }
}

/// Whether the request was written by then is a matter of luck; that it is one of the two is not.
#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_unreached_or_reset() {
    let receiver = Receiver::doing(|stream, _| async move { drop(stream) }).await;
    for _ in 0..20 {
        let failure = post(&client(), &receiver.url()).await.unwrap_err();
        assert!(matches!(failure, Failure::Connect { .. } | Failure::Reset { status: None, .. }), "{failure:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told_so() {
    let garbage = [
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", None),
        ("\0\u{1}\u{2}\u{3}\r\n\r\n", None),
        ("HTTP/1.1 abc OK\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", None),
        ("HTTP/3.0 200 OK\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Some(200)),
    ];
    for (bytes, status) in garbage {
        let receiver = Receiver::saying(bytes).await;
        let failure = post(&client(), &receiver.url()).await.unwrap_err();
        assert!(matches!(&failure, Failure::Malformed { status: told, .. } if *told == status), "{bytes:?}: {failure:?}");
    }
}

/// It cannot be an answer, because nothing was asked.
#[tokio::test]
async fn a_receiver_that_speaks_first_is_not_one() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        stream.write_all(b"220 mail.example ready\r\n").await.unwrap();
        closed(&mut stream).await;
    })
    .await;
    let failure = post(&client(), &receiver.url()).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect { .. } | Failure::Malformed { status: None, .. }), "{failure:?}");
}

/// A receiver that answers without reading all of a large request, and closes: what it said counts.
#[tokio::test]
async fn an_early_answer_is_heard() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
        closed(&mut stream).await;
    })
    .await;
    let answer = post_body(&client(), &receiver.url(), vec![b'x'; 8 * 1024 * 1024]).await.unwrap();
    assert_eq!(answer.status, 413);
}
