//! Which client ids there may be.

use std::sync::Arc;

use crate::support::{Running, TestAccess};
use crate::wire::{Wire, hello, kept};

/// Hazard 24: with the id `#` or `+`, a client's own p2p topic would be everybody's; `.` and `..` are folders.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_could_mean_more_than_one_client_is_refused() {
    const ILLEGAL: [&str; 17] = [
        "#",
        "+",
        "/",
        "a/b",
        "../a",
        "GID_student@@@+",
        "GID_student@@@#",
        "a\\b",
        "a\nb",
        "a\u{7f}b",
        "a\u{85}b",
        "\u{1}",
        "\t",
        ".",
        "..",
        "...",
        "../../etc",
    ];
    let access = Arc::new(TestAccess::new().0);
    let asked = Arc::clone(&access);
    let guarded = Running::with(|client_policy| client_policy.access = Some(access)).await;
    let open = Running::plain().await;
    for running in [&guarded, &open] {
        for (version, code) in [(4, 2), (5, 0x85)] {
            for id in ILLEGAL {
                let (mut client, answer) = Wire::try_connect(running.port, &hello(version, id)).await;
                assert_eq!(answer.code, code, "{id:?} with version {version}");
                client.expect_closed().await;
            }
        }
    }
    assert_eq!(asked.shown(), [], "the access control never sees them");

    for id in ["GID_student@@@001", "a.b", "..a", "%2F", "学生", "with space", "$share"] {
        Wire::connect(open.port, &hello(5, id)).await.goodbye().await;
    }
    guarded.stop().await;
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_an_id_gets_one_that_is_its_own() {
    let access = Arc::new(TestAccess::new().0);
    let asked = Arc::clone(&access);
    let running = Running::with(|client_policy| client_policy.access = Some(access)).await;
    let _one = Wire::connect(running.port, &hello(5, "")).await;
    let _other = Wire::connect(running.port, &hello(4, "")).await;
    let (_, refused) = Wire::try_connect(running.port, &kept(4, "")).await;
    assert_eq!(refused.code, 2, "a kept session needs a name");

    let ids: Vec<_> = asked.shown().into_iter().map(|shown| shown.client.id).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.len() > 30), "{ids:?}");
    running.stop().await;
}
