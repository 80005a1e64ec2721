//! The client for webhooks from outside: against servers on real sockets that do what they should, and all that they should not.
//!
//! | key | test |
//! |---|---|
//! | webhook.timeout | `failures::a_receiver_that_never_answers_times_out` and what follows it |
//! | webhook.connect_timeout | `failures::a_port_that_takes_no_connection_takes_the_time_to_connect_only` and its neighbours |
//! | webhook.max_response | `answers::a_body_may_have_the_most_bytes_and_none_more`, `tls::answers_over_http_2_have_the_same_bounds` |
//! | webhook.max_response_head | `answers::a_head_has_bounds_of_bytes`, `tls::answers_over_http_2_have_the_same_bounds` |
//! | webhook.max_response_headers | `answers::a_head_has_a_bound_of_headers` |
//! | webhook.max_idle_per_host | `connections::of_the_unused_connections_only_so_many_are_kept` |
//! | webhook.idle_timeout | `connections::a_connection_that_is_not_used_is_closed` |
//! | webhook.max_lookups | `webhook::resolver`: `a_look_up_beyond_the_bound_waits_for_its_turn` |
//! | webhook.allow | `addresses` |
//! | webhook.tls | `tls` |

mod addresses;
mod answers;
mod configured;
mod connections;
mod failures;
mod requests;
mod support;
mod tls;
