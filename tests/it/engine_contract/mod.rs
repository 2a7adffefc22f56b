//! What every engine must do: one list of tests, run on the in-memory engine and on a real dockerd. Where they differ
//! the in-memory one is wrong.

mod containers;
mod hardening;
mod isolation;
mod lab;
mod objects;
mod streams;

use lab::Lab;

/// Makes each test twice.
macro_rules! contract {
    ($($area:ident :: $name:ident),* $(,)?) => {
        mod on_the_fake {
            $(#[tokio::test]
            async fn $name() {
                super::$area::$name(&super::Lab::fake()).await;
            })*
        }
        mod on_dockerd {
            $(#[tokio::test]
            async fn $name() {
                super::$area::$name(&super::Lab::real()).await;
            })*
        }
    };
}

contract! {
    containers::it_tells_who_it_is,
    containers::a_created_container_is_listed_and_inspected_alike,
    containers::a_running_container_is_listed_with_all_that_a_look_needs,
    containers::a_taken_name_is_a_conflict,
    containers::a_create_whose_answer_was_lost_takes_the_name,
    containers::an_empty_name_or_a_missing_limit_is_refused_before_the_call,
    containers::a_missing_image_is_told_as_such,
    containers::starting_twice_is_fine,
    containers::stopping_twice_is_fine,
    containers::a_container_that_ignores_its_signal_is_killed_after_the_grace,
    containers::a_killed_container_has_exit_code_137,
    containers::an_exit_code_is_kept,
    containers::every_start_has_its_own_time,
    containers::removing_ends_what_runs_and_is_fine_when_it_is_gone,
    containers::starting_what_is_gone_is_not_found,
    containers::a_program_that_is_not_there_fails_the_start_with_its_name,
    containers::the_beginning_of_an_id_is_no_name,
    containers::a_renamed_container_is_not_found_by_its_old_name,
    containers::foreign_containers_are_not_listed,
    containers::a_uid_narrows_the_list,
    containers::files_survive_a_stop,
    containers::a_paused_container_is_told_and_can_be_resumed,
    containers::a_paused_container_does_not_start,
    objects::a_network_is_made_once,
    objects::a_network_s_name_is_matched_whole,
    objects::a_network_in_use_stays,
    objects::a_chosen_subnet_is_kept_and_an_overlap_refused,
    objects::an_address_comes_with_the_start_and_goes_with_the_end,
    objects::a_container_whose_network_was_made_anew_can_be_attached,
    objects::attaching_twice_is_fine,
    objects::a_sidecar_has_no_network_of_its_own,
    objects::a_sidecar_does_not_start_without_its_container,
    objects::a_volume_is_made_once_and_stays_while_in_use,
    objects::files_in_a_volume_survive_the_container,
    objects::foreign_networks_and_volumes_are_not_listed,
    objects::an_image_is_known_or_not,
    streams::events_of_ours_are_seen_with_their_labels,
    streams::events_of_foreign_containers_are_not_seen,
    streams::a_disconnect_tells_whose_container_it_was,
    streams::a_command_s_output_errors_and_code_are_told_apart,
    streams::output_beyond_the_limit_is_dropped,
    streams::a_command_reads_its_input_to_the_end,
    streams::a_terminal_has_the_size_it_is_given,
    streams::a_command_in_a_stopped_container_is_refused,
    streams::a_command_that_is_not_there_fails,
    streams::the_last_lines_of_a_log_can_be_asked_for,
    streams::a_followed_log_grows_and_ends_with_the_container,
    streams::log_lines_can_begin_with_their_time,
    streams::the_log_of_what_is_gone_is_not_found,
    streams::the_probe_s_answers_can_be_read,
}
