//! One test per scenario, for a given bench.
macro_rules! scenarios {
    ($bench:ty; $($name:ident)*) => { $(#[test] fn $name() { cases::$name::<$bench>(); })* };
    // What only IPv6 has.
    (six $bench:ty) => { scenarios!($bench;
        solicitations_are_answered chatter_is_dropped extension_headers mapped_addresses pods_are_no_routers errors_past_extension_headers
    ); };
    ($bench:ty) => { scenarios!($bench;
        pod_to_pod pod_to_other_node pod_to_itself pod_to_hosts pod_to_outside host_to_pods
        cluster_ip_from_a_pod cluster_ip_from_the_host hairpins udp_and_ping unsummed_udp
        node_port_from_outside node_port_from_a_pod node_port_of_a_host_backend node_port_elsewhere
        forwarded_by_another_node overlay_trust spoofing not_ready no_backend unknown_addresses
        ingress_policy egress_policy policy_sees_the_backend policy_precedence policy_by_prefix probes_pass
        policy_change_stops_a_flow answers_outlive_an_epoch generations a_pod_that_is_replaced a_backend_that_goes a_backend_that_does_not_answer
        taken_answers_move_the_port a_host_flow_gives_way a_socket_keeps_its_port host_port_from_everywhere masquerade_leaves_promised_ports masqueraded_ports_differ
        nic_passes_the_hosts_own own_addresses_from_outside fragments_and_nonsense time_to_live
        errors_about_flows errors_about_translated_flows errors_leave_translated ports_run_out some_keep_their_source to_pod_from_the_stack pod_to_overlay_port reopened_connection forged_senders fragments_follow_the_first fragments_leave_the_node fragments_of_a_refused_packet overlay_over_either_family
        native_pods native_hosts native_services native_forgeries native_changes_over native_policy native_generations
        too_big_for_the_overlay too_big_without_an_outer_header too_big_for_a_small_overlay too_big_for_the_nic too_big_from_outside too_big_from_the_host segments_are_measured
        lost_halves_are_made_again queries_after_a_lost_half a_lost_half_moves_nobody a_lost_half_that_is_taken
        one_port_through_several_nodes one_port_through_too_many_nodes one_port_after_a_lost_row one_port_by_datagrams
        one_port_to_a_host_backend one_port_by_a_service_and_without
        what_may_be_split what_is_never_answered a_queue_takes_what_its_device_takes
        a_checksum_for_somebody_else too_big_from_a_backend_on_the_host
    ); };
}
