//! Connections: kept, shared, replaced, and never a reason to send twice.

use crate::support::*;
use cim_gateway::webhook::{Client, Failure, Settings};
use futures::future::join_all;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

#[tokio::test]
async fn attempts_in_a_row_share_a_connection() {
    let receiver = Receiver::kind().await;
    let client = client();
    for _ in 0..5 {
        post(&client, &receiver.url()).await.unwrap();
    }
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn clones_share_their_connections() {
    let receiver = Receiver::kind().await;
    let client = client();
    for _ in 0..3 {
        post(&client.clone(), &receiver.url()).await.unwrap();
    }
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn no_connection_is_kept_where_none_is_to_be() {
    let receiver = Receiver::kind().await;
    let client = Client::new(Settings { max_idle_per_host: 0, ..settings() }).unwrap();
    for _ in 0..3 {
        post(&client, &receiver.url()).await.unwrap();
    }
    assert_eq!(receiver.accepted(), 3);
}

/// A receiver that tells each time when a client has closed a connection.
async fn telling() -> (Receiver, mpsc::UnboundedReceiver<usize>) {
    let (tell, ends) = mpsc::unbounded_channel();
    let receiver = Receiver::doing(move |mut stream, number| {
        let tell = tell.clone();
        async move {
            answer_all(&mut stream).await;
            tell.send(number).unwrap();
        }
    })
    .await;
    (receiver, ends)
}

#[tokio::test]
async fn of_the_unused_connections_only_so_many_are_kept() {
    let (receiver, mut ends) = telling().await;
    let client = Client::new(Settings { max_idle_per_host: 2, ..settings() }).unwrap();
    let url = receiver.url();
    for answer in join_all((0..5).map(|_| post(&client, &url))).await {
        answer.unwrap();
    }
    for _ in 2..receiver.accepted() {
        soon("the end of a connection too many", ends.recv()).await.unwrap();
    }
    let before = receiver.accepted();
    assert!(before > 2, "{before} connections were made at a time");
    for _ in 0..3 {
        post(&client, &url).await.unwrap();
    }
    assert_eq!(receiver.accepted(), before);
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed() {
    let (receiver, mut ends) = telling().await;
    let client = Client::new(Settings { idle_timeout: SHORT, ..settings() }).unwrap();
    post(&client, &receiver.url()).await.unwrap();
    assert_eq!(soon("the end of the connection", ends.recv()).await, Some(0));
}

#[tokio::test]
async fn the_connections_end_with_the_client() {
    let (receiver, mut ends) = telling().await;
    let client = client();
    post(&client, &receiver.url()).await.unwrap();
    drop(client);
    assert_eq!(soon("the end of the connection", ends.recv()).await, Some(0));
}

#[tokio::test]
async fn an_attempt_that_is_dropped_ends_its_connection() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (tell, mut ends) = mpsc::unbounded_channel();
    let receiver = Receiver::doing(move |mut stream, _| {
        let (arrived, tell) = (arrived.clone(), tell.clone());
        async move {
            read_request(&mut stream).await;
            arrived.send(()).unwrap();
            closed(&mut stream).await;
            tell.send(()).unwrap();
        }
    })
    .await;
    let (client, url) = (client(), receiver.url());
    tokio::select! {
        answer = post(&client, &url) => panic!("nobody answers: {answer:?}"),
        _ = soon("the request", arrivals.recv()) => {}
    }
    soon("the end of the connection", ends.recv()).await.unwrap();
}

/// A receiver that closes connections after a while does no harm: nothing had been written to the closed one.
#[tokio::test]
async fn a_connection_that_the_receiver_has_closed_is_replaced() {
    let (tell, mut ends) = mpsc::unbounded_channel();
    let receiver = Receiver::doing(move |mut stream, _| {
        let tell = tell.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            stream.shutdown().await.unwrap();
            // The client closes its side once it has seen that.
            closed(&mut stream).await;
            tell.send(()).unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..5 {
        post(&client, &receiver.url()).await.unwrap();
        soon("the end of the connection", ends.recv()).await.unwrap();
    }
    assert_eq!(receiver.accepted(), 5);
}

/// The same where the client has not noticed yet: it takes the closed connection for a good one, and finds out before it writes.
#[tokio::test]
async fn a_connection_that_turns_out_to_be_closed_is_replaced() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url(&format!("http://{}/cim", listener.local_addr().unwrap()));
    let (close, closings) = std::sync::mpsc::channel();
    let (tell, ends) = std::sync::mpsc::channel();
    // A thread of its own, so that a connection ends while the client's runtime stands still.
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n\r\n{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                got.push(byte[0]);
            }
            stream.write_all(OK).unwrap();
            closings.recv().unwrap();
            drop(stream);
            tell.send(()).unwrap();
        }
    });
    let client = client();
    post(&client, &url).await.unwrap();
    // The client puts the connection by.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    close.send(()).unwrap();
    ends.recv().unwrap();
    // The runtime learns that there is something to read, and this test goes on before who reads it.
    tokio::task::yield_now().await;
    post(&client, &url).await.unwrap();
    close.send(()).unwrap();
    server.join().unwrap();
}

/// Here it had been: the receiver may have acted upon it, so it is not sent again but told.
#[tokio::test]
async fn a_request_that_was_written_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let receiver = Receiver::doing(move |mut stream, _| {
        let count = count.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            if read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let client = client();
    post(&client, &receiver.url()).await.unwrap();
    let failure = post(&client, &receiver.url()).await.unwrap_err();
    assert!(matches!(failure, Failure::Reset { status: None, .. }), "{failure:?}");
    assert_eq!((receiver.accepted(), requests.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_connection_whose_answer_was_cut_off_is_not_used_again() {
    let receiver = Receiver::doing(|mut stream, number| async move {
        read_request(&mut stream).await;
        if number == 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n").await.unwrap();
            let _cut_off = stream.write_all(&[b'x'; 3000]).await;
        } else {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let client = Client::new(Settings { max_response: 1000, ..settings() }).unwrap();
    assert!(matches!(post(&client, &receiver.url()).await, Err(Failure::TooLarge { .. })));
    assert_eq!(post(&client, &receiver.url()).await.unwrap().status, 200);
    assert_eq!(receiver.accepted(), 2);
}
