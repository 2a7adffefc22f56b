//! What every engine must do: one list of tests, run on the in-memory engine and on a real dockerd. Where they differ
//! the in-memory one is wrong.

mod answers;
mod at_once;
mod builds;
mod carrying;
mod containers;
mod daemon;
mod events;
mod hardening;
mod images;
mod isolation;
mod lab;
mod limits;
mod objects;
mod registry;
mod states;
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

/// As [`contract`], on a daemon that is the test's own.
macro_rules! contract_of_a_daemon {
    ($($name:ident: $live_restore:literal),* $(,)?) => {
        mod on_a_fake_daemon {
            $(#[tokio::test]
            async fn $name() {
                super::daemon::$name(&super::Lab::fake()).await;
            })*
        }
        mod on_a_daemon_of_its_own {
            $(#[tokio::test]
            async fn $name() {
                super::daemon::$name(&super::Lab::own($live_restore)).await;
            })*
        }
    };
}

contract_of_a_daemon! {
    after_a_crash_all_that_ran_has_ended_with_137_and_nothing_is_started: false,
    with_live_restore_containers_go_on_without_the_daemon: true,
}

contract! {
    containers::it_tells_who_it_is,
    containers::a_created_container_is_listed_and_inspected_alike,
    containers::a_running_container_is_listed_with_all_that_a_look_needs,
    containers::a_taken_name_is_a_conflict,
    containers::a_create_whose_answer_was_lost_takes_the_name,
    containers::an_empty_name_or_a_missing_limit_is_refused_before_the_call,
    containers::more_cores_than_there_are_are_refused,
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
    containers::processor_time_is_told_of_what_works_and_of_what_waits,
    containers::a_renamed_container_is_not_found_by_its_old_name,
    containers::a_container_is_given_its_name_back_with_its_files,
    containers::a_name_that_another_container_has_is_not_given,
    containers::foreign_containers_are_not_listed,
    containers::a_uid_narrows_the_list,
    containers::files_survive_a_stop,
    containers::a_paused_container_is_told_and_can_be_resumed,
    containers::a_paused_container_does_not_start,
    limits::a_container_has_the_limits_it_was_made_with,
    limits::limits_that_somebody_changed_are_seen_and_given_back_to_what_runs,
    limits::limits_are_given_back_to_what_does_not_run,
    limits::what_its_engine_was_told_to_start_by_itself_is_seen_and_taken_back,
    limits::limits_that_an_engine_cannot_give_are_refused_and_change_nothing,
    limits::a_change_of_limits_is_told,
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
    streams::a_command_runs_as_the_user_and_in_the_folder_asked_for,
    streams::what_is_kept_in_memory_is_gone_with_the_run,
    streams::a_terminal_has_the_size_it_is_given,
    streams::a_command_in_a_stopped_container_is_refused,
    streams::a_command_that_is_not_there_fails,
    streams::the_last_lines_of_a_log_can_be_asked_for,
    streams::a_followed_log_grows_and_ends_with_the_container,
    streams::log_lines_can_begin_with_their_time,
    streams::the_log_of_what_is_gone_is_not_found,
    streams::the_probe_s_answers_can_be_read,
    streams::a_command_without_input_finds_its_end_at_once,
    streams::output_comes_while_the_command_goes_on,
    streams::a_command_in_a_frozen_container_is_refused,
    streams::a_command_ends_with_its_container,
    answers::a_start_of_what_runs_and_a_stop_of_what_ended_change_nothing,
    answers::nothing_can_be_done_with_a_container_that_is_not_there,
    answers::nothing_can_be_done_with_a_network_that_is_not_there,
    answers::a_volume_an_image_and_a_command_that_are_not_there_are_told_as_such,
    answers::what_runs_is_removed_only_by_force,
    answers::what_does_not_run_cannot_be_killed_or_frozen,
    answers::what_is_frozen_cannot_be_frozen_again,
    answers::a_version_that_is_too_new_is_refused,
    answers::who_asks_is_told_the_version,
    answers::a_path_that_means_nothing_is_not_found,
    at_once::a_start_whose_answer_was_lost_happened,
    at_once::a_removal_whose_answer_was_lost_happened,
    at_once::a_stop_goes_on_without_who_asked_for_it,
    at_once::a_volume_and_a_network_whose_answers_were_lost_are_there,
    at_once::of_two_creates_of_one_name_one_wins,
    at_once::two_starts_at_once_are_one,
    at_once::two_removals_at_once_are_both_fine,
    at_once::a_removal_does_not_wait_for_a_stop,
    events::a_container_s_life_is_told_in_order,
    events::an_end_tells_its_code_and_a_kill_its_signal,
    events::running_out_of_memory_is_told_before_the_end,
    events::a_new_name_is_told_with_the_old_one,
    events::freezing_and_thawing_are_told,
    events::networks_and_volumes_are_told_without_labels,
    events::a_command_is_not_told,
    events::what_is_past_can_be_asked_for_and_only_that,
    events::only_the_last_256_are_remembered,
    states::a_container_never_started_has_no_times_and_no_code,
    states::a_failed_start_is_forgotten_with_the_next_one,
    states::a_later_start_sorts_after_an_earlier_one,
    states::labels_and_variables_come_back_as_they_were,
    states::every_state_is_listed,
    states::a_program_that_listens_ends_at_once_and_well,
    states::running_out_of_memory_is_told_until_the_next_end,
    states::a_name_is_free_again_after_a_removal,
    states::what_failed_to_start_can_be_removed,
    objects::two_that_run_have_two_addresses,
    objects::a_subnet_that_is_full_fails_the_start,
    objects::a_network_that_only_stopped_containers_are_on_can_be_removed,
    objects::a_container_that_is_stopped_can_be_attached,
    objects::a_container_that_is_stopped_is_put_on_a_network_that_is_not_there,
    objects::a_volume_that_is_somebody_else_s_is_a_conflict,
    objects::a_volume_nobody_made_is_made_without_labels,
    objects::a_volume_made_anew_is_empty,
    images::a_container_is_made_of_an_image_by_its_id,
    images::a_pull_brings_what_is_not_there,
    images::a_pull_of_what_the_registry_has_not_is_not_found,
    images::a_pull_that_fails_in_the_middle_fails_and_leaves_nothing,
    images::an_image_goes_with_its_last_name_and_not_from_under_a_container,
    images::what_a_failed_build_leaves_has_no_name_and_goes_by_its_id,
    images::what_was_pushed_is_pulled_by_who_may,
    carrying::a_container_s_own_files_go_on_as_an_image,
    carrying::an_image_that_is_cut_off_on_its_way_is_not_there,
    carrying::a_volume_is_read_and_filled_through_a_container_that_never_ran,
    carrying::an_archive_that_is_cut_off_on_its_way_is_an_error,
    builds::an_image_is_built_and_says_how,
    builds::a_build_that_fails_says_where_and_leaves_nothing,
    builds::what_a_build_begins_with_is_pulled,
    builds::files_beside_the_dockerfile_are_copied,
    builds::two_builds_of_one_image_at_once_are_both_fine,
}
