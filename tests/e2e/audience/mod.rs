//! Audiences through the public calls of every shape: who is in at every moment, who came and went and why, and everything around it.
//!
//! The processes run on the real clock. So what is to leave a window within a test happened just so long ago; the moment at which it leaves
//! is then asserted to the microsecond.

mod acceptance;
mod command_line;
mod composition;
mod definitions;
pub mod history;
mod lists;
mod looking;
mod persons;
mod refusals;
mod switches;
mod syncs;
pub mod tenant;
mod time;

use super::{for_every_shape, on};
use segue_tests::installation::Shape;

#[tokio::test]
async fn the_cases_of_the_semantics_hold_at_every_moment_in_two_time_zones() {
    for_every_shape(acceptance::cases_hold).await;
}

#[tokio::test]
async fn persons_enter_and_leave_exactly_when_the_truth_changes() {
    for_every_shape(time::truth_changes).await;
}

#[tokio::test]
async fn merged_persons_move_to_the_survivor_and_deleted_ones_leave() {
    for_every_shape(persons::merges_and_deletion).await;
}

#[tokio::test]
async fn audiences_follow_what_they_refer_to() {
    for_every_shape(composition::references).await;
}

#[tokio::test]
async fn definitions_are_made_changed_archived_and_restored() {
    for_every_shape(definitions::lives).await;
}

#[tokio::test]
async fn lists_are_filled_from_files_reports_and_by_hand_and_exported() {
    for_every_shape(lists::filled_and_exported).await;
}

#[tokio::test]
async fn previews_count_every_node_and_explanations_say_why() {
    for_every_shape(looking::previews_and_explanations).await;
}

#[tokio::test]
async fn requests_are_refused_by_field_by_role_and_by_tenant() {
    for_every_shape(refusals::refused).await;
}

#[tokio::test]
async fn a_tenant_may_have_so_many_and_is_told_so() {
    let settings = ["audience.audiences_max=2", "audience.segments_max=1", "audience.lists_max=1", "audience.condition_nodes_max=5"];
    if let Err(error) = on(Shape::Embedded, &settings, refusals::limits).await {
        panic!("{error:?}");
    }
}

#[tokio::test]
async fn a_destination_is_told_who_enters_and_leaves_until_it_takes_it() {
    let settings = ["audience.sync.allow_http=true", "audience.sync.allow_private_addresses=true", "audience.sync.retry_pause_ms_max=200"];
    for shape in Shape::available() {
        if let Err(error) = on(shape, &settings, syncs::told).await {
            panic!("as {shape:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn switched_off_nothing_is_done_and_switched_on_everything_is_caught_up() {
    for_every_shape(switches::off_and_on).await;
}

#[tokio::test]
async fn after_kills_transitions_still_add_up_to_the_members() {
    for_every_shape(switches::killed).await;
}

#[tokio::test]
async fn the_command_line_speaks_of_audiences() {
    if let Err(error) = on(Shape::Embedded, &[], command_line::spoken).await {
        panic!("{error:?}");
    }
}
