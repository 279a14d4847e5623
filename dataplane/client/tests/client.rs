//! The client against a small server over real sockets: what it promises over faults of the connection and refusals.

use client::fake::{CHANNEL, Fake, Fault, KEY};
use client::{
    ClientError, Connection, Credentials, Delivery, FetchOptions, Message, Options, Receiver,
    Sender, Settlement, Ticket,
};
use std::time::Duration;
use wire::delivery::Outcome;
use wire::reason::Reason;

async fn connect(fake: &Fake, endpoint: &str) -> Connection {
    let credentials = Credentials::key(endpoint, 1, KEY).expect("a well formed key");
    client::connect(fake.addr.to_string(), credentials)
        .await
        .expect("the fake accepts this key")
}

async fn sender(fake: &Fake) -> Sender {
    connect(fake, "a/e/sender")
        .await
        .sender()
        .expect("an ingress key")
}

async fn receiver(fake: &Fake) -> Receiver {
    connect(fake, "a/e/reader")
        .await
        .receiver(FetchOptions::default())
        .expect("an egress key")
}

async fn send(sender: &Sender, bodies: std::ops::Range<u32>) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for body in bodies {
        let message = Message::new(body.to_string()).header("kind", "test");
        tickets.push(
            sender
                .send(CHANNEL, message)
                .await
                .expect("granted and open"),
        );
    }
    tickets
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn pipelined_messages_are_all_acked_in_order_beyond_the_credit() {
    let fake = Fake::start(&[]);
    let sender = sender(&fake).await;
    let mut last = 0;
    for ticket in send(&sender, 0..500).await {
        let receipt = ticket.await.expect("acked");
        assert_eq!(receipt.sequence.0, last + 1);
        last = receipt.sequence.0;
    }
    sender.close().await.expect("open until now");
    assert_eq!(fake.state().bodies(), numbers(0..500));
}

#[tokio::test]
async fn a_message_that_comes_when_as_many_as_may_be_are_unanswered_waits_and_is_answered() {
    for in_flight_frames_max in 1..=20 {
        let fake = Fake::start(&[]);
        let credentials = Credentials::key("a/e/sender", 1, KEY).expect("a well formed key");
        let options = Options {
            in_flight_frames_max,
            ..Options::default()
        };
        let address = fake.addr.to_string();
        let connection = client::connect_with(address, credentials, options).await;
        let sender = connection.and_then(Connection::sender);
        let sender = sender.expect("the fake accepts this key");
        // One more than may be unanswered, all there before the first goes out.
        let count = in_flight_frames_max as u32 + 1;
        for ticket in send(&sender, 0..count).await {
            ticket.await.expect("acked");
        }
        sender.close().await.expect("open until now");
        assert_eq!(fake.state().bodies(), numbers(0..count));
    }
}

/// A client whose server may be gone for good soon.
async fn hasty(fake: &Fake, endpoint: &str) -> Connection {
    let credentials = Credentials::key(endpoint, 1, KEY).expect("a well formed key");
    let options = Options {
        reconnect_for: Duration::from_millis(30),
        in_flight_frames_max: 1,
        ..Options::default()
    };
    let connection = client::connect_with(fake.addr.to_string(), credentials, options).await;
    connection.expect("the fake accepts this key")
}

async fn impatient(fake: &Fake) -> Sender {
    let connection = hasty(fake, "a/e/sender").await;
    connection.sender().expect("an ingress key")
}

#[tokio::test]
async fn an_answer_that_comes_with_the_end_of_the_connection_is_given() {
    for _ in 0..50 {
        let fake = Fake::start(&[Fault::Leave(0)]);
        let sender = impatient(&fake).await;
        let ticket = send(&sender, 0..1).await.pop().expect("one was sent");
        ticket.await.expect("it was acked before the end");
    }
}

#[tokio::test]
async fn who_waits_to_send_is_told_the_fault_that_ended_the_session_not_that_it_was_closed() {
    for _ in 0..10 {
        let fake = Fake::start(&[Fault::Leave(1)]);
        let sender = impatient(&fake).await;
        let tasks: Vec<_> = (0..200)
            .map(|number: u32| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let message = Message::new(number.to_string());
                    sender.send(CHANNEL, message).await?.await
                })
            })
            .collect();
        let mut lost = 0;
        for task in tasks {
            match task.await.expect("it does not panic") {
                Ok(_) => {}
                Err(ClientError::Lost(_)) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(lost >= 198, "{lost} of 200");
        let again = sender.send(CHANNEL, Message::new("late")).await;
        assert!(matches!(again, Err(ClientError::Lost(_))), "{again:?}");
        assert!(matches!(sender.close().await, Err(ClientError::Lost(_))));
    }
}

#[tokio::test]
async fn who_settles_is_told_the_fault_that_ended_the_session_not_that_it_was_closed() {
    let fake = Fake::start(&[Fault::Leave(1), Fault::CutDelivery(1)]);
    let connection = hasty(&fake, "a/e/reader").await;
    let mut receiver = connection
        .receiver(FetchOptions::default())
        .expect("egress");
    let sender = impatient(&fake).await;
    for ticket in send(&sender, 0..1).await {
        ticket.await.expect("acked");
    }
    let delivery = receiver.next().await.expect("open").expect("one comes");
    // The second message ends the sender's connection and the listener; the receiver's own was cut before.
    let _second = sender.send(CHANNEL, Message::new("1")).await;
    let told = loop {
        match receiver.accept_through(&delivery).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(told, ClientError::Lost(_)), "{told:?}");
    // The second message may have come first: a receiver that was cut comes back as long as anybody listens.
    let last = loop {
        match receiver.next().await {
            Some(Ok(second)) => assert_eq!((second.number, &second.body[..]), (2, &b"1"[..])),
            last => break last,
        }
    };
    assert!(matches!(last, Some(Err(ClientError::Lost(_)))), "{last:?}");
    let closed = receiver.close().await;
    assert!(matches!(closed, Err(ClientError::Lost(_))), "{closed:?}");
}

#[tokio::test]
async fn a_batch_is_one_frame_with_one_answer() {
    let fake = Fake::start(&[]);
    let sender = sender(&fake).await;
    let batch: Vec<Message> = (0..100)
        .map(|number| Message::new(number.to_string()))
        .collect();
    let receipt = sender
        .send_batch(CHANNEL, &batch)
        .await
        .expect("fits")
        .await
        .expect("acked");
    assert_eq!(
        (
            receipt.sequence.0,
            receipt.offset.expect("acked on this connection").0
        ),
        (1, 99)
    );
    assert_eq!(fake.state().bodies(), numbers(0..100));
}

#[tokio::test]
async fn a_frame_refused_for_good_is_dropped_and_the_rest_goes_again_in_order() {
    let fake = Fake::start(&[Fault::Reject(3, Reason::RestrictedBody, 0)]);
    let sender = sender(&fake).await;
    for (number, ticket) in send(&sender, 0..20).await.into_iter().enumerate() {
        match (number, ticket.await) {
            (3, Err(ClientError::Rejected(rejected))) => {
                let notice = rejected.notice;
                assert_eq!(
                    (notice.reason, notice.seen, notice.needed),
                    (Reason::RestrictedBody, 1, 2)
                );
            }
            (_, Ok(receipt)) => {
                assert_eq!(receipt.sequence.0, number as u64 + u64::from(number < 3))
            }
            (_, Err(error)) => panic!("message {number}: {error}"),
        }
    }
    let want: Vec<String> = numbers(0..20)
        .into_iter()
        .filter(|body| body != "3")
        .collect();
    assert_eq!(fake.state().bodies(), want);
}

#[tokio::test]
async fn a_frame_refused_for_now_is_sent_again_after_the_pause() {
    for reason in [Reason::Busy, Reason::StorageFull] {
        let fake = Fake::start(&[Fault::Reject(2, reason, 5), Fault::Reject(3, reason, 5)]);
        let sender = sender(&fake).await;
        for ticket in send(&sender, 0..10).await {
            ticket.await.expect("acked in the end");
        }
        assert_eq!(fake.state().bodies(), numbers(0..10), "{reason}");
    }
}

#[tokio::test]
async fn a_dropped_connection_is_resumed_and_nothing_is_lost_or_appended_twice() {
    for (why, faults, hellos) in [
        ("resumed", vec![Fault::Cut(5), Fault::Cut(40)], (1, 2)),
        (
            "forgotten by the server",
            vec![Fault::Cut(5), Fault::Cut(40), Fault::Forget],
            (3, 0),
        ),
    ] {
        let fake = Fake::start(&faults);
        let sender = sender(&fake).await;
        for ticket in send(&sender, 0..100).await {
            ticket.await.expect("acked in the end");
        }
        let state = fake.state();
        assert_eq!(state.bodies(), numbers(0..100), "{why}");
        assert_eq!(state.hellos, hellos, "{why}");
    }
}

#[tokio::test]
async fn another_node_s_numbers_are_not_taken_for_those_of_the_one_before() {
    // What was on its way when the node changed is on none: the new one's higher number says nothing of it.
    let fake = Fake::start(&[Fault::MoveAway(2)]);
    let sender = sender(&fake).await;
    let mut sequences = Vec::new();
    for ticket in send(&sender, 0..6).await {
        sequences.push(ticket.await.expect("acked in the end").sequence.0);
    }
    let lost = sequences
        .iter()
        .take_while(|sequence| **sequence < 3)
        .count();
    let bodies = fake.state().bodies();
    assert_eq!(bodies, numbers(lost as u32..6), "answered: {sequences:?}");
    let want: Vec<u64> = (11..).take(6 - lost).collect();
    assert_eq!(sequences[lost..], want, "they go on where the new node is");
}

#[tokio::test]
async fn messages_of_another_node_are_new_whatever_their_numbers() {
    let fake = Fake::start(&[]);
    let (sender, mut receiver) = (sender(&fake).await, receiver(&fake).await);
    let mut get = async |bodies: std::ops::Range<u32>| {
        for ticket in send(&sender, bodies.clone()).await {
            ticket.await.expect("acked in the end");
        }
        let mut got = Vec::new();
        for body in bodies {
            let delivery = receiver.next().await.expect("open").expect("a delivery");
            assert_eq!(delivery.body, body.to_string().into_bytes());
            got.push(delivery);
        }
        got
    };
    let before = get(0..5).await;
    fake.state().move_away(0);
    let after = get(5..8).await;
    let numbers = |all: &[Delivery]| all.iter().map(|one| one.number).collect::<Vec<_>>();
    assert_eq!(
        (numbers(&before), numbers(&after)),
        (vec![1, 2, 3, 4, 5], vec![1, 2, 3])
    );
    // Its number is one of the new node's, too, and means another message there.
    for settled in [
        receiver.settle(&before[1], Settlement::Accept).await,
        receiver.accept_through(&before[1]).await,
    ] {
        settled.expect("it is open");
        let told = receiver.next().await.expect("open");
        assert!(matches!(told, Err(ClientError::Settle(_))), "{told:?}");
    }
    receiver
        .accept_through(&after[2])
        .await
        .expect("it is open");
    receiver.close().await.expect("open until now");
    assert_eq!(fake.state().settled, [(3, Outcome::AcceptUpTo)]);
}

#[tokio::test]
async fn deliveries_come_in_order_and_are_settled_one_by_one_and_cumulatively() {
    let fake = Fake::start(&[]);
    let sender = sender(&fake).await;
    for ticket in send(&sender, 0..10).await {
        ticket.await.expect("acked");
    }
    let mut receiver = receiver(&fake).await;
    let mut deliveries = Vec::new();
    for number in 0..10u32 {
        let delivery = receiver.next().await.expect("open").expect("a delivery");
        assert_eq!(String::from_utf8_lossy(&delivery.body), number.to_string());
        assert_eq!(delivery.header("kind"), Some(&b"test"[..]));
        assert_eq!(delivery.channel_name.as_deref(), Some(CHANNEL));
        deliveries.push(delivery);
    }
    receiver.accept_through(&deliveries[6]).await.expect("open");
    receiver
        .settle(&deliveries[8], Settlement::DeadLetter)
        .await
        .expect("open");
    receiver
        .settle(&deliveries[7], Settlement::Accept)
        .await
        .expect("open");
    receiver
        .settle(&deliveries[9], Settlement::Release)
        .await
        .expect("open");
    let again = receiver
        .next()
        .await
        .expect("open")
        .expect("the released one");
    assert_eq!(again.number, deliveries[9].number);
    receiver
        .settle(&again, Settlement::Accept)
        .await
        .expect("open");
    receiver.close().await.expect("open");
    let want = [
        (7, Outcome::AcceptUpTo),
        (9, Outcome::DeadLetterOne),
        (8, Outcome::AcceptOne),
        (10, Outcome::ReleaseOne),
        (10, Outcome::AcceptOne),
    ];
    assert_eq!(fake.state().settled, want);
}

#[tokio::test]
async fn a_receiver_that_reconnects_gets_nothing_twice() {
    let fake = Fake::start(&[Fault::CutDelivery(4), Fault::CutDelivery(9)]);
    let sender = sender(&fake).await;
    for ticket in send(&sender, 0..20).await {
        ticket.await.expect("acked");
    }
    let mut receiver = receiver(&fake).await;
    for number in 0..20u32 {
        let delivery = receiver.next().await.expect("open").expect("a delivery");
        assert_eq!(String::from_utf8_lossy(&delivery.body), number.to_string());
        if number % 3 == 2 {
            receiver.accept_through(&delivery).await.expect("open");
        }
    }
    receiver.close().await.expect("open");
    assert!(fake.state().hellos.1 >= 2, "{:?}", fake.state().hellos);
}

#[tokio::test]
async fn a_token_opens_a_session_and_resumes_it_without_being_sent_whole() {
    let fake = Fake::start(&[Fault::Cut(5), Fault::Forget]);
    let key = wire::signature::MacKey::new(KEY.as_bytes());
    let token = wire::token::mint(&key, "a/e/sender", 4_102_444_800, "main");
    let credentials = Credentials::token("a/e/sender", &token).expect("well formed");
    let connection = client::connect(fake.addr.to_string(), credentials)
        .await
        .expect("a good token");
    let sender = connection.sender().expect("an ingress key");
    for ticket in send(&sender, 0..10).await {
        ticket.await.expect("acked in the end");
    }
    assert_eq!(fake.state().bodies(), numbers(0..10));
}

#[tokio::test]
async fn mistakes_are_told_with_their_code() {
    let fake = Fake::start(&[]);
    let short = Options {
        handshake_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let key = |endpoint, key| Credentials::key(endpoint, 1, key).expect("well formed");
    let addr = fake.addr.to_string();
    let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let refused = client::connect_with(&addr, key("a/e/sender", wrong), short.clone())
        .await
        .expect_err("wrong key");
    let nobody = client::connect_with("127.0.0.1:1", key("a/e/sender", KEY), short)
        .await
        .expect_err("no node");
    let direction = connect(&fake, "a/e/reader")
        .await
        .sender()
        .expect_err("an egress key");
    let sender = sender(&fake).await;
    let channel = sender
        .send("a/e/other", Message::new("x"))
        .await
        .expect_err("not granted");
    let long = sender
        .send(CHANNEL, Message::new(vec![0; 262_145]))
        .await
        .expect_err("one byte too long");
    let fits = sender
        .send(CHANNEL, Message::new(vec![0; 262_144]))
        .await
        .expect("the longest body");
    fits.await.expect("acked");
    let empty = sender
        .send_batch(CHANNEL, &[])
        .await
        .expect_err("nothing to send");
    let clone = sender.clone();
    sender.close().await.expect("open until now");
    let closed = clone
        .send(CHANNEL, Message::new("x"))
        .await
        .expect_err("closed");
    for (error, code) in [
        (refused, 1104),
        (nobody, 5101),
        (direction, 5109),
        (channel, 5107),
        (long, 5108),
        (empty, 5108),
        (closed, 5110),
    ] {
        let diagnosis = error.diagnosis();
        assert_eq!(diagnosis.code, code, "{error}");
        assert!(
            !diagnosis.seen.is_empty()
                && !diagnosis.needed.is_empty()
                && !diagnosis.remedy.is_empty(),
            "{error}"
        );
    }
}
