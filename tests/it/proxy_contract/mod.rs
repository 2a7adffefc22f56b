//! What every Traefik must do: one list of tests, run on the one in memory on a paused clock, and on a real one. Where
//! they differ the one in memory is wrong.

mod cases;
mod lab;

use lab::Lab;

/// Makes each test twice.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod on_the_fake {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::cases::$name(&mut super::Lab::fake()).await;
            })*
        }
        mod on_traefik {
            $(#[tokio::test]
            async fn $name() {
                super::cases::$name(&mut super::Lab::real().await).await;
            })*
        }
    };
}

contract! {
    it_is_new_enough,
    before_the_first_good_answer_every_host_is_unknown,
    a_configuration_is_served_and_then_the_next_one,
    an_error_status_keeps_what_there_is,
    what_cannot_be_read_keeps_what_there_is,
    an_unknown_field_keeps_what_there_is,
    an_empty_map_keeps_what_there_is,
    a_dead_provider_keeps_what_there_is_and_is_found_again,
    an_empty_object_wipes_every_route,
    a_rule_that_cannot_be_read_harms_no_other_router_and_is_told,
    a_router_that_names_a_missing_middleware_is_closed_and_told,
    a_router_that_names_a_missing_service_is_closed_and_told,
    a_router_on_an_unknown_entry_point_is_closed_and_told,
    a_host_is_matched_in_every_spelling,
    the_larger_priority_wins_and_a_longer_rule_without_one,
    after_a_restart_nothing_is_held_until_the_next_good_answer,
    the_overview_counts_routers_and_what_is_wrong,
    routers_are_listed_by_name_with_their_state,
    the_marker_can_be_asked_for_alone,
    middlewares_are_qualified_and_services_are_not,
    a_poll_that_is_held_holds_up_nothing,
    what_is_published_is_told_as_current_and_served,
    a_route_that_moved_is_not_current_until_it_is_taken_up,
    after_a_restart_what_was_published_comes_back,
    one_that_stands_still_does_not_answer,
    requests_are_counted_by_workspace_and_anew_after_a_restart,
}
