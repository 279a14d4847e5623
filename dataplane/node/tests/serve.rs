//! A node as its users see it: over sockets, from HELLO to SETTLE, through stops, restarts and reloads.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::io::Write;
use std::net::Shutdown;

use support::*;
use wire::frame::FrameKind;
use wire::ids::{AckMode, LogsId};

#[test]
fn a_message_goes_from_send_to_settle_and_survives_a_restart() {
    for ack in [AckMode::Durable, AckMode::Local] {
        let data = tempfile::tempdir().unwrap();
        let node = start(data.path(), table(parts(ack, 1)));
        let mut sender = Client::connect(node.listen_addr(), &sender(0));
        sender.send(&[b"one", b"two"]);
        let acked = sender.wait_acked(1);
        assert_eq!(acked.ack_mode, ack, "the ACK says what it promises");
        let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
        receiver.fetch(10);
        let (last, bodies) = receiver.take(2);
        assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec()]);
        receiver.settle(last);
        sender.send(&[b"three"]);
        sender.wait_acked(2);
        let (_, bodies) = receiver.take(1);
        assert_eq!(bodies, [b"three".to_vec()], "not settled");
        node.stop();
        let summary = node.join().unwrap();
        assert_eq!(summary.counters.append.messages, 3);

        let node = start(data.path(), table(parts(ack, 1)));
        let mut again = Client::connect(node.listen_addr(), &support::sender(0));
        assert_eq!(again.sequence, 3, "the last sequence is kept");
        again.send(&[b"four"]);
        again.wait_acked(3);
        let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
        receiver.fetch(10);
        let (_, bodies) = receiver.take(2);
        assert_eq!(bodies, [b"three".to_vec(), b"four".to_vec()], "{ack:?}");
        node.stop();
        node.join().unwrap();
    }
}

#[test]
fn welcome_names_the_logs_which_stay_the_same_over_a_restart_and_are_others_in_another_folder() {
    let [data, other] = [(), ()].map(|()| tempfile::tempdir().unwrap());
    let logs = |data: &tempfile::TempDir| {
        let node = start(data.path(), table(parts(AckMode::Local, 1)));
        let logs = Client::connect(node.listen_addr(), &sender(0)).terms().logs;
        let heard = Client::connect(node.listen_addr(), RECEIVER).terms().logs;
        assert_eq!(logs, heard);
        node.stop();
        node.join().unwrap();
        logs
    };
    let first = logs(&data);
    assert_ne!(first, LogsId::default());
    assert_eq!(logs(&data), first);
    assert_ne!(logs(&other), first);
    std::fs::remove_dir_all(data.path()).unwrap();
    assert_ne!(logs(&data), first, "what was in them is gone");
}

#[test]
fn many_connections_send_at_once_and_everything_arrives_in_order_per_sender() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Durable, 16)));
    let mut clients: Vec<Client> = (0..16)
        .map(|number| Client::connect(node.listen_addr(), &sender(number)))
        .collect();
    for round in 0_u8..50 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&[&[number as u8, round], &[number as u8, round + 100]]);
        }
    }
    for client in &mut clients {
        client.wait_acked(50);
    }
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(10_000);
    let (_, bodies) = receiver.take(16 * 50 * 2);
    for number in 0..16 {
        let mine = bodies.iter().filter(|body| body[0] == number);
        let rounds: Vec<u8> = mine.map(|body| body[1]).collect();
        let want: Vec<u8> = (0..50).flat_map(|round| [round, round + 100]).collect();
        assert_eq!(rounds, want, "sender {number}");
    }
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_frame_cut_anywhere_is_put_together() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Local, 1)));
    let mut sender = Client::connect(node.listen_addr(), &sender(0));
    let body = vec![5; 200_000];
    for _ in 0..20 {
        sender.put_send(&[&body, b"tail"]);
    }
    sender.flush();
    sender.wait_acked(20);
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(100);
    let (_, bodies) = receiver.take(40);
    assert!(bodies.iter().step_by(2).all(|got| *got == body));
    node.stop();
    let summary = node.join().unwrap();
    assert!(summary.counters.parse.assembled_frames > 0);
}

#[test]
fn a_sender_that_only_closed_its_half_still_hears_its_ack() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Durable, 1)));
    let mut sender = Client::connect(node.listen_addr(), &sender(0));
    sender.send(&[b"last"]);
    sender.stream.shutdown(Shutdown::Write).unwrap();
    sender.wait_acked(1);
    assert_eq!(sender.read(), Said::End, "then it is closed");
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_stop_commits_says_goaway_and_takes_no_more() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path(), table(parts(AckMode::Durable, 1)));
    let mut sender = Client::connect(node.listen_addr(), &sender(0));
    sender.send(&[b"before the stop"]);
    sender.wait_acked(1);
    let addr = node.listen_addr();
    node.stop();
    assert_eq!(sender.read(), Said::Other(FrameKind::Goaway));
    assert_eq!(sender.read(), Said::End);
    node.join().unwrap();
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn a_peer_that_never_says_hello_is_let_go() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.timeouts.handshake = std::time::Duration::from_millis(100);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let mut silent = std::net::TcpStream::connect(node.listen_addr()).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut silent, &mut said).unwrap();
    assert!(!said.is_empty(), "it is told why");
    let mut rude = std::net::TcpStream::connect(node.listen_addr()).unwrap();
    rude.set_read_timeout(Some(PATIENCE)).unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = std::io::Read::read_to_end(&mut rude, &mut said);
    node.stop();
    node.join().unwrap();
}

#[test]
fn connections_come_and_go_a_thousand_times() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.ring.connections_max = 8;
    let node = try_start(config, table(parts(AckMode::Local, 4))).unwrap();
    let addr = node.listen_addr();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                for _ in 0..250 {
                    let mut client = Client::connect(addr, &sender(number));
                    let next = client.sequence;
                    client.send(&[b"x"]);
                    client.wait_acked(next);
                    // Lost without a word, as sensors are.
                    let socket = socket2::SockRef::from(&client.stream);
                    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    node.stop();
    assert_eq!(node.join().unwrap().counters.append.messages, 1000);
}
