//! A read that dies.

use super::*;

/// Hazard 30: a queue whose read has died would never be read again, while the others go on.
#[tokio::test(start_paused = true)]
async fn a_follower_dies_with_a_read_that_dies() {
    let story = Story::new(2);
    let following = story.follow(StartAt::Earliest).await;
    story.memory.pull_dies.store(true, Ordering::Relaxed);
    let died = tokio::time::timeout(Duration::from_secs(20), following.task).await;
    assert!(died.expect("it dies").unwrap_err().is_panic());
}
