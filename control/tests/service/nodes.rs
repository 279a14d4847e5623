//! Nodes, and the endpoints that are at home on them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::diagnosis as codes;
use control::model::{Endpoint, Model, Node, Noun, Role, Thing, node_hash};
use control::plan;
use control::seal::MasterKey;
use control::service::{
    Apply, Caller, NodeApplied, NodeSeen, Publish, Secrets, Service, Update, deleting, setting,
};
use control::store::{Change, Store};
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use super::changes::whole;
use super::{World, caller, empty, read, world};

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        ..Node::default()
    }
}

fn defining(node: Node) -> Change {
    setting(Thing::Node(node), None)
}

fn edit(world: &World, changes: Vec<Change>) -> Result<u64, Diagnosis> {
    let edited = (world.service).edit(&Caller::local(), "test", |_, _| Ok(changes));
    let first = |mut found: control::service::Refusal| found.remove(0).fault;
    edited.map(|outcome| outcome.version).map_err(first)
}

/// An endpoint as it is, with this home.
fn at_home(world: &World, name: &str, home: Option<&str>) -> Change {
    let catalog = world.service.catalog();
    let stored = catalog.get(Noun::Endpoint, name).expect("there");
    let Thing::Endpoint(endpoint) = &*stored.thing else {
        panic!("{name} is no endpoint");
    };
    let endpoint = Endpoint {
        home: home.map(str::to_owned),
        ..(**endpoint).clone()
    };
    setting(Thing::Endpoint(Box::new(endpoint)), None)
}

fn with_nodes() -> World {
    let world = world();
    let north = Node {
        address: Some("north.example:7411".to_owned()),
        ..node("north")
    };
    edit(&world, vec![defining(north), defining(node("south"))]).expect("defined");
    world
}

/// The name of the node on which an endpoint is at home by the table in force.
fn home_of(world: &World, name: &str) -> Option<String> {
    let table = world.node.table();
    let endpoint = table.endpoint_by_name(name).expect("there");
    let node = |id| table.node(id).expect("the table knows it");
    endpoint.home().map(|id| node(id).name.to_string())
}

#[test]
fn an_endpoint_has_its_home_in_the_table_and_moves_by_one_change() {
    let world = with_nodes();
    let table = world.node.table();
    let north = table.node_by_name("north").expect("there");
    assert_eq!(north.id, node_hash("north"));
    assert_eq!(north.address.as_deref(), Some("north.example:7411"));
    assert_eq!(home_of(&world, "a/e/pump"), None);
    for home in [Some("north"), Some("south"), None] {
        let before = world.node.deltas();
        edit(&world, vec![at_home(&world, "a/e/pump", home)]).expect("moved");
        assert_eq!(home_of(&world, "a/e/pump").as_deref(), home);
        assert_eq!(home_of(&world, "b/e/office"), None, "it stays where it is");
        assert_eq!(world.node.deltas(), before + 1, "little changes");
        assert_eq!(world.service.digest(), whole(&world));
    }
}

#[test]
fn a_home_that_is_not_defined_is_refused_with_the_nearest_name() {
    let world = with_nodes();
    let before = world.service.digest();
    for (home, remedy) in [
        ("nroth", "did you mean `north`?"),
        ("elsewhere-entirely", "forebay node create"),
        ("", "forebay node create"),
    ] {
        let fault = edit(&world, vec![at_home(&world, "a/e/pump", Some(home))]);
        let fault = fault.expect_err(home);
        assert_eq!(fault.code, codes::UNKNOWN_NAME);
        assert!(fault.what.contains("a/e/pump"), "{fault:?}");
        assert!(fault.remedy.contains(remedy), "{fault:?}");
    }
    assert_eq!(world.service.digest(), before);
}

#[test]
fn a_node_goes_when_nobody_is_at_home_there_and_not_before() {
    let world = with_nodes();
    let both = ["a/e/pump", "b/e/office"];
    let moved = |home| both.map(|name| at_home(&world, name, home)).to_vec();
    edit(&world, moved(Some("north"))).expect("moved");
    let gone = || deleting(Noun::Node, "north", None);
    let fault = edit(&world, vec![gone()]).expect_err("somebody lives there");
    assert_eq!(fault.code, codes::NODE_IS_HOME);
    assert!(fault.what.contains("`north`"), "{fault:?}");
    assert_eq!(fault.seen, "endpoint `a/e/pump`, and 1 more");
    assert!(fault.remedy.contains("a/e/pump home="), "{fault:?}");
    // One of the two leaves: the other one is named.
    let mut changes = vec![at_home(&world, "a/e/pump", None), gone()];
    let fault = edit(&world, changes.clone()).expect_err("one is left");
    assert_eq!(fault.seen, "endpoint `b/e/office`");
    changes.push(at_home(&world, "b/e/office", Some("south")));
    edit(&world, changes).expect("nobody is left");
    assert_eq!(home_of(&world, "b/e/office").as_deref(), Some("south"));
    assert!(world.node.table().node_by_name("north").is_none());
    assert_eq!(world.service.digest(), whole(&world));
    // Who is not enabled is a home all the same.
    let away = Node {
        enabled: Some(false),
        ..node("south")
    };
    edit(&world, vec![defining(away)]).expect("disabled");
    assert_eq!(home_of(&world, "b/e/office").as_deref(), Some("south"));
}

#[test]
fn the_id_of_a_node_is_given_to_no_other_and_comes_back_with_its_name() {
    let world = with_nodes();
    let id = i64::from(node_hash("north").0);
    edit(&world, vec![at_home(&world, "a/e/pump", Some("north"))]).expect("moved");
    let other = |id| Node {
        id: Some(id),
        ..node("west")
    };
    let taken = edit(&world, vec![defining(other(id))]).expect_err("taken");
    assert_eq!(taken.code, codes::ID_COLLISION);
    edit(&world, vec![at_home(&world, "a/e/pump", None)]).expect("moved");
    edit(&world, vec![deleting(Noun::Node, "north", None)]).expect("deleted");
    let was = edit(&world, vec![defining(other(id))]).expect_err("it was another's");
    assert_eq!(was.code, codes::ID_COLLISION);
    edit(&world, vec![defining(node("north"))]).expect("back");
    let table = world.node.table();
    assert_eq!(
        table.node_by_name("north").map(|node| node.id),
        Some(node_hash("north"))
    );
    // Under another id it is another node to the data plane: endpoints that nobody touched follow.
    edit(&world, vec![at_home(&world, "a/e/pump", Some("north"))]).expect("moved");
    let moved = Node {
        id: Some(7),
        ..node("north")
    };
    edit(&world, vec![defining(moved)]).expect("moved");
    assert_eq!(home_of(&world, "a/e/pump").as_deref(), Some("north"));
    assert_eq!(world.service.digest(), whole(&world));
}

#[test]
fn two_new_nodes_whose_hashes_meet_get_an_id_each() {
    // Found by trying: the low halves of the hashes of these two are the same.
    let (one, two) = colliding();
    let world = world();
    edit(&world, vec![defining(node(&one)), defining(node(&two))]).expect("defined");
    let table = world.node.table();
    let ids = [&one, &two].map(|name| table.node_by_name(name).expect("there").id);
    assert_ne!(ids[0], ids[1]);
    assert!(ids.contains(&node_hash(&one)));
}

/// Two names of nodes with one hash.
fn colliding() -> (String, String) {
    let mut seen = std::collections::HashMap::new();
    for number in 0_u32.. {
        let name = format!("n{number}");
        if let Some(other) = seen.insert(node_hash(&name), name.clone()) {
            return (other, name);
        }
    }
    unreachable!("there are fewer hashes than names")
}

#[test]
fn nodes_are_changed_by_owners_of_everything_alone_and_known_to_all() {
    let world = with_nodes();
    for role in [Role::Viewer, Role::Operator, Role::Admin, Role::Owner] {
        for account in [None, Some("a")] {
            let who = caller(role, account);
            let changes = [
                ("create", defining(node("west"))),
                ("delete", deleting(Noun::Node, "south", None)),
            ];
            for (action, change) in changes {
                if (role, account) == (Role::Owner, None) {
                    continue;
                }
                let refused = (world.service).edit(&who, action, |_, _| Ok(vec![change]));
                let code = refused.expect_err("no owner of all").remove(0).fault.code;
                let want = match role {
                    Role::Owner => codes::SCOPE,
                    _ => codes::ROLE,
                };
                assert_eq!(code, want, "{who:?}");
            }
            let told = world.service.nodes(&who).expect("everybody may look");
            let names: Vec<&str> = told.iter().map(|node| node.name.as_str()).collect();
            assert_eq!(names, ["north", "south"], "{who:?}");
            let near = world.service.node(&who, "noth").expect_err("none");
            assert_eq!(
                (near.code, &*near.remedy),
                (codes::NOT_THERE, "did you mean `north`?")
            );
        }
    }
    // An account says for itself where it is at home.
    let admin = caller(Role::Admin, Some("a"));
    let moves = |who: &Caller, name: &str| {
        let change = at_home(&world, name, Some("north"));
        let moved = (world.service).edit(who, "set", |_, _| Ok(vec![change]));
        moved
            .map(drop)
            .map_err(|mut found| found.remove(0).fault.code)
    };
    assert_eq!(moves(&admin, "a/e/pump"), Ok(()));
    assert_eq!(moves(&admin, "b/e/office"), Err(codes::SCOPE));
    let operator = caller(Role::Operator, Some("b"));
    assert_eq!(moves(&operator, "b/e/office"), Err(codes::ROLE));
    let named = Apply {
        model: read("[[nodes]]\nname = \"north\"\naddress = \"north.example:7411\"\n"),
        prune: false,
        create: false,
    };
    let refused = world.service.differences(&admin, &named);
    assert_eq!(
        refused.expect_err("not its own")[0].fault.code,
        codes::SCOPE
    );
}

#[test]
fn nodes_and_homes_are_exported_and_applied_and_pruned_with_no_account() {
    let world = with_nodes();
    edit(&world, vec![at_home(&world, "a/e/pump", Some("north"))]).expect("moved");
    let all = Caller::local();
    let model = world
        .service
        .export(&all, Secrets::Sealed)
        .expect("exported");
    assert_eq!(model.nodes.len(), 2);
    let there = empty([7; 32]);
    let text = plan::write(&model).expect("TOML");
    let apply = |text: &str, prune: bool| Apply {
        model: read(text),
        prune,
        create: false,
    };
    there
        .service
        .apply(&all, &apply(&text, true))
        .expect("applied");
    assert_eq!(there.service.digest(), world.service.digest());
    let differ = there.service.differences(&all, &apply(&text, true));
    assert_eq!(differ.expect("compared"), []);
    // One account has the name of a node, and a document of it does not name the node.
    let account = "[[accounts]]\nname = \"north\"\n";
    there
        .service
        .apply(&all, &apply(account, false))
        .expect("applied");
    there
        .service
        .apply(&all, &apply(account, true))
        .expect("applied");
    assert_eq!(home_of(&there, "a/e/pump").as_deref(), Some("north"));
    let gone = deleting(Noun::Account, "north", None);
    edit(&there, vec![gone]).expect("deleted");
    assert!(there.service.catalog().get(Noun::Node, "north").is_some());
    let own = world
        .service
        .export(&caller(Role::Admin, Some("a")), Secrets::Sealed);
    let own: Model = own.expect("exported");
    assert_eq!(own.nodes, [], "they are of no account");
    assert_eq!(own.endpoints[0].home.as_deref(), Some("north"));
}

/// Tells which nodes were let in, and in what order that and tables came.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<Vec<String>>>);

impl Door {
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("whole"))
    }
}

impl Publish for Door {
    fn check(&self, _: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    fn admit(&self, nodes: &mut dyn Iterator<Item = &Node>) {
        let nodes = nodes.filter(|node| node.is_enabled());
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        let line = format!("in: {}", names.join(" "));
        self.0.lock().expect("whole").push(line);
    }

    fn publish(&self, update: Update) {
        let line = format!("table {}", update.table.epoch());
        self.0.lock().expect("whole").push(line);
    }

    fn applied(&self, _: u64, _: Duration) -> Vec<NodeApplied> {
        Vec::new()
    }

    fn nodes(&self) -> Vec<NodeSeen> {
        let seen = |name: &str| NodeSeen {
            name: name.to_owned(),
            connected: true,
            address: None,
            heard_seconds: None,
            version: None,
            current: false,
            kept: None,
            refused: None,
            hubs_unopened: 0,
            unopened: None,
            shards: Vec::new(),
            snapshots: 0,
            deltas: 0,
        };
        vec![seen("west"), seen("north")]
    }
}

#[test]
fn who_is_let_in_is_said_before_the_table_and_again_at_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let door = Door::default();
    let start = || {
        let master = Arc::new(MasterKey::new(&[7; 32]));
        let store = Store::open(&path, master).expect("a store");
        let service = Service::start(store, Box::new(door.clone()), Box::new(|| 1_000));
        service.expect("started")
    };
    let service = start();
    assert_eq!(door.said(), ["in: ", "table 0"]);
    let all = Caller::local();
    let change = |change| service.edit(&all, "test", |_, _| Ok(vec![change]));
    change(defining(node("north"))).expect("defined");
    change(defining(node("south"))).expect("defined");
    let said = ["in: north", "table 1", "in: north south", "table 2"];
    assert_eq!(door.said(), said);
    let away = Node {
        enabled: Some(false),
        ..node("south")
    };
    change(defining(away)).expect("disabled");
    assert_eq!(door.said(), ["in: north", "table 3"]);
    // What is defined and what was seen are told together, to who sees everything.
    let told = service.nodes(&all).expect("told");
    let told: Vec<_> = told
        .iter()
        .map(|node| (&*node.name, node.defined.is_some(), node.seen.is_some()))
        .collect();
    let want = [
        ("north", true, true),
        ("south", true, false),
        ("west", false, true),
    ];
    assert_eq!(told, want);
    let own = service
        .nodes(&caller(Role::Owner, Some("a")))
        .expect("told");
    assert!(own.len() == 2 && own.iter().all(|node| node.seen.is_none()));
    drop(service);
    start();
    assert_eq!(door.said(), ["in: north", "table 3"]);
}
