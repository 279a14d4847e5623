//! The books against every kind of fault, and to the message.

use super::*;

const RUN: u64 = 99;
const SENDER: EndpointId = EndpointId(5);
const CHANNEL: ChannelId = ChannelId(8);

fn observer() -> Observer {
    let sources = [
        Source {
            endpoint: SENDER,
            channel: CHANNEL,
        },
        Source {
            endpoint: EndpointId(6),
            channel: ChannelId(9),
        },
    ];
    Observer::new("reader", RUN, UnixNanos(1_000), Arc::new(sources))
}

struct Message {
    run: u64,
    number: u64,
    sender: EndpointId,
    attempt: u16,
    append_time: u64,
    body: &'static [u8],
}

const GOOD: Message = Message {
    run: RUN,
    number: 0,
    sender: SENDER,
    attempt: 1,
    append_time: 2_000,
    body: b"body",
};

fn read(observer: &mut Observer, message: &Message) -> bool {
    let stamp = Stamp {
        run: message.run,
        sender: 0,
        number: message.number,
    }
    .bytes(7, b"body");
    observer.note(&Arrived {
        sender: message.sender,
        channel: CHANNEL,
        attempt: message.attempt,
        append_time: UnixNanos(message.append_time),
        timestamp: UnixNanos(7),
        stamp: Some(&stamp),
        covered: message.body,
    })
}

#[test]
fn each_kind_of_fault_is_found_and_named() {
    let number = |number| Message { number, ..GOOD };
    let clean = Findings {
        delivered: 3,
        ..Findings::default()
    };
    for (why, messages, want) in [
        (
            "nothing wrong",
            vec![number(0), number(1), number(2)],
            clean.clone(),
        ),
        (
            "twice",
            vec![number(0), number(1), number(1), number(2)],
            Findings {
                duplicated: 1,
                ..clean.clone()
            },
        ),
        (
            "announced again",
            vec![
                number(0),
                number(1),
                Message {
                    attempt: 2,
                    ..number(1)
                },
                number(2),
            ],
            Findings {
                redelivered: 1,
                ..clean.clone()
            },
        ),
        (
            "swapped",
            vec![number(0), number(2), number(1)],
            Findings {
                misordered: 1,
                ..clean.clone()
            },
        ),
        (
            "altered",
            vec![
                number(0),
                Message {
                    body: b"bodi",
                    ..number(1)
                },
                number(2),
            ],
            Findings {
                altered: 1,
                ..clean.clone()
            },
        ),
        (
            "of nobody",
            vec![number(0), number(1), Message { run: 1, ..GOOD }, number(2)],
            Findings {
                stray: 1,
                ..clean.clone()
            },
        ),
        (
            "of another endpoint",
            vec![
                number(0),
                number(1),
                number(2),
                Message {
                    sender: EndpointId(6),
                    ..number(3)
                },
            ],
            Findings {
                stray: 1,
                ..clean.clone()
            },
        ),
        (
            "from before the run",
            vec![
                Message {
                    run: 1,
                    append_time: 999,
                    ..GOOD
                },
                number(0),
                number(1),
                number(2),
            ],
            Findings {
                leftover: 1,
                ..clean.clone()
            },
        ),
    ] {
        let mut observer = observer();
        messages.iter().for_each(|message| {
            read(&mut observer, message);
        });
        let outcomes = [
            Outcome {
                sent: 3,
                answered: 3,
                rejected: vec![],
                lost: vec![],
            },
            Outcome::default(),
        ];
        let result = reconcile(&outcomes, vec![(observer, vec![CHANNEL])]);
        assert_eq!(result.findings, want, "{why}");
        let harmless = want.duplicated + want.misordered + want.altered + want.stray == 0;
        assert_eq!(result.clean(), harmless, "{why}");
        assert_eq!(
            result.evidence.is_empty(),
            harmless,
            "{why}: {:?}",
            result.evidence
        );
    }
}

#[test]
fn sent_is_acked_and_rejected_and_unanswered_to_the_message() {
    let mut observer = observer();
    for number in [0, 2, 4, 6] {
        read(&mut observer, &Message { number, ..GOOD });
    }
    let outcomes = [
        Outcome {
            sent: 9,
            answered: 7,
            rejected: vec![1, 4],
            lost: vec![],
        },
        Outcome::default(),
    ];
    let result = reconcile(&outcomes, vec![(observer, vec![CHANNEL])]);
    assert_eq!(
        (
            result.sent,
            result.acked,
            result.rejected,
            result.unanswered
        ),
        (9, 5, 2, 2)
    );
    assert_eq!(result.expected, 5);
    assert_eq!(
        result.undelivered, 2,
        "messages 3 and 5 were acked and never came"
    );
    assert_eq!(result.findings.stray, 1, "message 4 was rejected and came");
    assert_eq!(result.lost(), 4);
}

#[test]
fn what_datagrams_lost_is_lost_whether_it_came_all_the_same_or_not() {
    let mut observer = observer();
    for number in [0, 2] {
        read(&mut observer, &Message { number, ..GOOD });
    }
    let outcomes = [
        Outcome {
            sent: 4,
            answered: 4,
            rejected: vec![3],
            lost: vec![1, 2],
        },
        Outcome::default(),
    ];
    let result = reconcile(&outcomes, vec![(observer, vec![CHANNEL])]);
    let sums = (
        result.sent,
        result.acked,
        result.rejected,
        result.unanswered,
    );
    assert_eq!(sums, (4, 1, 1, 2));
    assert_eq!((result.undelivered, result.findings.stray), (0, 0));
    assert!(result.clean_but_for_answers() && !result.clean());
}

#[test]
fn a_receiver_that_does_not_hear_the_channel_makes_every_message_a_stray() {
    let mut observer = observer();
    read(&mut observer, &GOOD);
    let outcomes = [
        Outcome {
            sent: 1,
            answered: 1,
            rejected: vec![],
            lost: vec![],
        },
        Outcome::default(),
    ];
    let result = reconcile(&outcomes, vec![(observer, vec![ChannelId(9)])]);
    assert_eq!(
        (result.findings.stray, result.expected, result.undelivered),
        (1, 0, 0)
    );
}
