//! What nodes have made logs by stays as it is, whether or not a node is there to say so.

use control::diagnosis::LOGS_FIXED;
use control::service::{Apply, Caller};

use crate::{PLAN, read, world};

#[test]
fn partitions_of_a_hub_that_there_ever_was_and_queue_groups_do_not_change() {
    let world = world();
    let apply = |text: &str| {
        let document = Apply {
            model: read(text),
            prune: true,
            create: false,
        };
        world.service.apply(&Caller::local(), &document)
    };
    let refused = |text: &str| {
        let before = world.service.catalog().version;
        let found = apply(text).expect_err("fixed");
        assert_eq!(world.service.catalog().version, before, "nothing changed");
        (found[0].fault.code, found[0].fault.needed.clone())
    };
    let other = PLAN.replace("partitions = 2", "partitions = 3");
    let want = (LOGS_FIXED, "2, as it was made with".to_owned());
    assert_eq!(refused(&other), want);
    let groups = PLAN.replace("queue_groups = 2", "queue_groups = 7");
    let of_groups = (LOGS_FIXED, "2, as before".to_owned());
    assert_eq!(refused(&groups), of_groups);
    // Its logs outlast it.
    let hub = "[[hubs]]\nname = \"a/e/fast\"\npartitions = 2\n";
    let without = PLAN.replace(hub, "").replace("hub = \"fast\"\n", "");
    apply(&without).expect("it goes");
    assert_eq!(refused(&other), want);
    apply(PLAN).expect("it comes back as it was");
}
