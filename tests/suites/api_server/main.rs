//! The API server that stands in for kube-apiserver: before a client is blamed, it must be as the real one.

mod client;
mod faults;
mod lists;
mod watches;

use std::process::ExitCode;

use testbed::suite::{Test, run};

fn main() -> ExitCode {
    run(vec![
        Test::new("objects_have_versions_and_identities", lists::objects_have_versions_and_identities),
        Test::new("holding_a_manifest_writes_only_what_differs", lists::holding_writes_only_what_differs),
        Test::new("a_watch_tells_what_changed_after_a_version", watches::watch_tells_changes),
        Test::new("a_watch_without_version_begins_with_everything", watches::watch_without_version),
        Test::new("resuming_misses_nothing_and_repeats_nothing", watches::resuming_is_gapless),
        Test::new("selectors_select_in_lists", lists::selectors_in_lists),
        Test::new("who_leaves_a_selection_is_deleted_and_who_enters_added", watches::selectors_in_watches),
        Test::new("pages_are_of_one_moment", lists::pages_are_of_one_moment),
        Test::new("what_was_compacted_is_expired", watches::what_was_compacted_is_expired),
        Test::new("a_short_history_expires_too", watches::a_short_history_expires),
        Test::new("open_watches_can_be_expired", watches::open_watches_can_be_expired),
        Test::new("a_streaming_list_ends_with_a_marked_bookmark", watches::streaming_list),
        Test::new("options_that_make_no_sense_are_invalid", lists::invalid_options),
        Test::new("bookmarks_come_to_those_who_want_them", watches::bookmarks),
        Test::new("a_watch_ends_in_its_time", watches::watch_ends_in_time),
        Test::new("only_the_token_of_now_opens", lists::tokens),
        Test::new("paths_and_methods_that_do_not_exist", lists::unknown_paths),
        Test::new("back_with_older_state", watches::back_with_older_state),
        Test::new("a_cut_is_no_clean_end", faults::cut_is_no_clean_end),
        Test::new("down_and_back_on_the_same_port", faults::down_and_back),
        Test::new("hanging_is_silent_and_ends", faults::hanging),
        Test::new("a_slow_drip_is_slow", faults::slow_drip),
        Test::new("garbage_is_no_json", faults::garbage),
        Test::new("truncated_answers_end_in_the_middle", faults::truncated),
        Test::new("a_wrong_certificate_is_not_trusted", faults::wrong_certificate),
        Test::new("refusals_refuse_requests_and_keep_watches", faults::refusals),
        Test::new("a_server_is_where_it_was_started", lists::server_in_namespace),
        Test::new("a_large_list_is_whole", lists::large_list),
    ])
}
