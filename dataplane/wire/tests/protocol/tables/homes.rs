//! Nodes of a table, and the endpoints that are at home on them.

use std::collections::BTreeMap;

use wire::NodeId;
use wire::route::{
    Delta, DeltaParts, Endpoint, HeadParts, Node, ReadError, RouteTable, TableBytes, TableError,
    TableParts,
};

use super::{World, checked};

#[test]
fn a_home_is_a_node_of_the_table_and_one_that_has_guests_stays() {
    let mut world = World::new(4);
    let mut one = world.endpoint("a/e/1");
    one.home = Some(NodeId(1));
    world.endpoints = BTreeMap::from([("a/e/1".to_owned(), one.clone())]);
    let table = world.table(1);
    let home = |table: &RouteTable| table.endpoint_by_name("a/e/1").expect("there").home();
    assert_eq!(home(&table), Some(NodeId(1)));
    let after = |parts: DeltaParts| {
        let delta = table.change(DeltaParts { epoch: 2, ..parts })?;
        table.after(&Delta::read(delta.encode()).expect("as it was written"))
    };
    let head = |ids: &[u32]| HeadParts {
        nodes: ids
            .iter()
            .map(|id| node(*id, &format!("n{id}"), None))
            .collect(),
        ..world.head.clone()
    };
    for (ids, fits) in [
        (&[0, 1][..], true),
        (&[1, 4], true),
        (&[0], false),
        (&[], false),
    ] {
        let after = after(DeltaParts {
            head: Some(head(ids)),
            ..DeltaParts::default()
        });
        let none = TableError::NoNode("a/e/1".into(), NodeId(1));
        match fits {
            true => assert_eq!(after.expect("it fits").nodes(), head(ids).nodes),
            false => assert_eq!(after.map(drop), Err(none.into())),
        }
    }
    for to in [None, Some(NodeId(0))] {
        let set = vec![Endpoint {
            home: to,
            ..one.clone()
        }];
        let after = after(DeltaParts {
            set,
            ..DeltaParts::default()
        })
        .expect("it fits");
        assert_eq!((home(&after), home(&after.compacted())), (to, to));
        assert_ne!(after.digest(), table.digest());
        let changes = after
            .changes_since(&table)
            .expect("endpoints alone changed");
        assert_eq!(changes.count(), 1);
        let back = DeltaParts {
            epoch: 3,
            set: vec![one.clone()],
            ..DeltaParts::default()
        };
        let back = after
            .after(&after.change(back).expect("a change"))
            .expect("it fits");
        assert_eq!(back.digest(), table.digest());
    }
    let lost = Endpoint {
        home: Some(NodeId(77)),
        ..one
    };
    let none = TableError::NoNode("a/e/1".into(), NodeId(77));
    let parts = TableParts {
        endpoints: vec![lost.clone()],
        ..world.parts(2)
    };
    assert_eq!(RouteTable::build(parts).map(drop), Err(none.clone()));
    let after = after(DeltaParts {
        set: vec![lost],
        ..DeltaParts::default()
    });
    assert_eq!(after.map(drop), Err(none.into()));
}

fn node(id: u32, name: &str, address: Option<&str>) -> Node {
    Node {
        id: NodeId(id),
        name: name.into(),
        address: address.map(Box::from),
    }
}

/// A table of nodes alone.
fn of_nodes(nodes: Vec<Node>) -> Result<RouteTable, TableError> {
    RouteTable::build(TableParts {
        nodes,
        queue_groups: 1,
        ..TableParts::default()
    })
}

#[test]
fn nodes_that_share_a_name_or_an_id_or_have_none_are_refused() {
    for (nodes, error) in [
        (
            vec![node(1, "a", None), node(2, "a", None)],
            TableError::NameTwice("nodes", "a".into()),
        ),
        (
            vec![node(7, "b", None), node(7, "a", None)],
            TableError::IdTwice("nodes", "a".into(), "b".into(), 7),
        ),
        (vec![node(1, "A", None)], TableError::NodeName("A".into())),
        (
            vec![node(1, "a", Some("host"))],
            TableError::NodeAddress("a".into(), "host".into()),
        ),
    ] {
        assert_eq!(of_nodes(nodes).map(drop), Err(error));
    }
}

#[test]
fn nodes_that_contradict_each_other_are_refused_out_of_bytes_too() {
    let two = vec![node(0x1122, "aa", Some("host:1")), node(0x3344, "bb", None)];
    let good = of_nodes(two).expect("two nodes").encode().to_vec();
    let read = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|bytes| bytes == from);
        let at = at.expect("it is among the bytes");
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        RouteTable::read(TableBytes::from(checked(bytes))).map(drop)
    };
    assert_eq!(read(b"aa", b"ab"), Ok(()));
    for (from, to) in [
        (&b"aa"[..], &b"bb"[..]),
        (b"bb", b"aa"),
        (&[0x22, 0x11, 0, 0], &[0x44, 0x33, 0, 0]),
        (b"aa", b"a/"),
        (b"host:1", b"host:0"),
    ] {
        assert!(matches!(read(from, to), Err(ReadError::Table(_))), "{to:?}");
    }
}
