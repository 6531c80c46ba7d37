// SPDX-License-Identifier: MIT
#pragma once

// Beginnings and ends: start, stop, death, recovery, and several of them at once.

#include "making.hpp"

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

namespace ublk_test::differential {

// ---------------------------------------------------------------- start and stop

inline void add_starts(scripts& all) {
    making m{"start_errors"};
    m.since(7, 3);  // older drivers believe any pid
    m.created({}).attached({});
    m.call(for_process(ctrl::start_dev, 0, process::another)).want("EINVAL");
    m.call(ask(ctrl::start_dev, 0, 999999), "no such process").want("EINVAL");
    m.started();
    m.call(for_process(ctrl::start_dev, 0)).want("EEXIST");
    m.call(for_process(ctrl::start_dev, 0, process::another)).want("EINVAL");
    m.call(set_params(0, params_of({}))).want("EACCES");
    m.call(ask(ctrl::start_user_recovery, 0)).want("EINVAL");
    m.call(for_process(ctrl::end_user_recovery, 0), "not recoverable", a_while).want("EINVAL");
    m.call(get_info(0)).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.drain(0, 2).want("2 times ENODEV");
    m.call(again(set_params(0, params_of({})), EACCES), "as soon as the disk is gone").want("0");
    all.push_back(m.done());

    making n{"start_given_up_and_tried_again"};
    n.created({}).open(0).map(0, 0).port(0, 0, 2);
    n.begin(1, for_process(ctrl::start_dev, 0)).finish(1, a_while).want("pending");
    n.cancel(1).finish(1).want("EINTR");
    n.fetch_all(0, 0, {}).started().opened();
    n.passed(2, io(deed::read, 8, 8), 4096, "0 02*4096", 2);
    all.push_back(n.done());

    making o{"two_starts_wait"};
    o.since(7, 3);
    o.created({}).open(0).map(0, 0).port(0, 0, 2);
    o.begin(1, for_process(ctrl::start_dev, 0, process::another))
        .finish(1, a_while)
        .want("pending");
    o.begin(2, for_process(ctrl::start_dev, 0)).finish(2, a_while).want("pending");
    o.fetch_all(0, 0, {}).finish(1).want("EINVAL").finish(2).want("0");
    all.push_back(o.done());
}

inline void add_restarts(scripts& all) {
    making m{"second_start_after_a_new_open"};
    m.since(7, 3);  // on 6.12 the second disk never gets an answer
    m.live({}).opened();
    m.passed(1, io(deed::read, 8, 8), 4096, "0 01*4096", 1);
    m.client(2, io(deed::close, 0, 0)).await(2).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0").drain(0, 2).want("2 times ENODEV");
    m.close_port(0).close(0);
    m.attached({}).started().opened(2);
    m.passed(3, io(deed::read, 8, 8, 0, 2), 4096, "0 02*4096", 2);
    all.push_back(m.done());

    making n{"start_on_a_stopped_channel"};
    n.since(7, 3);
    n.live({}).call(ask(ctrl::stop_dev, 0)).want("0").drain(0, 2).want("2 times ENODEV");
    n.fetch(0, 0, 0).expect(0, 9).want("q0 t0 ENODEV");
    n.call(again(for_process(ctrl::start_dev, 0), EEXIST)).want("EBUSY");
    all.push_back(n.done());

    making o{"an_opener_holds_the_disk"};
    o.since(7, 3);
    o.live({}).opened().call(ask(ctrl::stop_dev, 0)).want("0").drain(0, 2);
    o.client(1, io(deed::read, 8, 8)).await(1).want("0");
    o.call(set_params(0, params_of({}))).want("EACCES");
    o.close_port(0).close(0).attached({});
    o.call(for_process(ctrl::start_dev, 0)).want("EEXIST");
    o.client(2, io(deed::close, 0, 0)).await(2).want("0");
    o.started().opened(2);
    o.passed(3, io(deed::read, 8, 8, 0, 2), 4096, "0 03*4096", 3);
    all.push_back(o.done());
}

inline void add_stops(scripts& all) {
    making m{"stop_waits_for_requests"};
    m.live({}).opened();
    m.client(1, io(deed::read, 8, 8)).expect(0, 1);
    m.client(2, io(deed::write, 16, 8, 9)).pause();
    m.begin(3, ask(ctrl::stop_dev, 0)).finish(3, a_while).want("pending");
    m.expect(0, 2).want("q0 WRITE 16+8");
    m.commit(0, 1, 4096, 7).await(1).want("0 07*4096");
    m.finish(3, a_while).want("pending");
    m.commit(0, 2, 4096).await(2).want("0");
    m.finish(3).want("0").drain(0, 2).want("2 times ENODEV");
    m.client(4, io(deed::open, 0, 0, 0, 2)).await(4).want("ENOENT");
    all.push_back(m.done());

    making n{"try_stop"};
    n.since(7, 3);
    n.live({}).opened();
    n.call(ask(ctrl::try_stop_dev, 0)).want("EBUSY");
    n.passed(1, io(deed::read, 8, 8), 4096, "0 07*4096", 7);
    n.client(2, io(deed::close, 0, 0)).await(2).want("0");
    n.call(ask(ctrl::try_stop_dev, 0)).want("0").drain(0, 2).want("2 times ENODEV");
    n.call(ask(ctrl::try_stop_dev, 0)).want("ENODEV");
    all.push_back(n.done());

    making o{"deletion_of_a_live_disk"};
    o.live({});
    o.begin(1, ask(ctrl::del_dev, 0)).finish(1, a_while).want("pending");
    o.drain(0, 2).want("2 times ENODEV").close_port(0).close(0).finish(1).want("0");
    all.push_back(o.done());
}

inline void add_sizes(scripts& all) {
    making m{"update_size"};
    m.since(7, 3);
    m.live({}).opened();
    m.call(ask(ctrl::update_size, 0, 16)).want("0").call(get_params(0)).want("0");
    m.client(1, io(deed::read, 16, 8)).await(1).want("0");
    m.passed(2, io(deed::read, 8, 8), 4096, "0 07*4096", 7);
    m.call(ask(ctrl::update_size, 0, 8192)).want("0");
    m.passed(3, io(deed::read, 4096, 8), 4096, "0 08*4096", 8);
    m.call(ask(ctrl::update_size, 0, 0)).want("0").call(get_params(0)).want("0");
    m.client(4, io(deed::read, 0, 8)).await(4).want("0");
    all.push_back(m.done());

    making n{"partition_scan"};
    n.since(7, 3);
    uapi::dev_info scanned = info_of({});
    scanned.flags = 0;
    n.call(add(0, scanned)).want("0").call(set_params(0, params_of({}))).want("0");
    n.attached({}).call(for_process(ctrl::start_dev, 0)).want("0");
    n.expect(0, 1).want("q0 READ 0+8").nothing(0).commit(0, 1, 4096, 0);
    n.serve(0).opened().hold(0);
    n.passed(2, io(deed::read, 8, 8), 4096, "0 07*4096", 7);
    all.push_back(n.done());
}

// ---------------------------------------------------------------- death and recovery

struct mode {
    const char* name;
    std::uint64_t flags;
};
inline constexpr mode modes[] = {
    {"none", 0},
    {"recovery", feature::user_recovery},
    {"reissue", feature::user_recovery | feature::user_recovery_reissue},
    {"fail_io", feature::user_recovery | feature::user_recovery_fail_io},
};

/// What a second server does: `held` requests of the first come back to it.
inline void recover(making& m, const mode& given, bool held) {
    const shape s{.flags = given.flags};
    if (given.flags == 0) {
        m.await_state(0, dev_state::dead).attached(s);
        m.call(for_process(ctrl::start_dev, 0), "the old disk is open").want("EEXIST");
        m.client(6, io(deed::close, 0, 0)).await(6).want("0");
        m.started().opened(2);
        m.passed(5, io(deed::read, 8, 8, 0, 2), 4096, "0 05*4096", 5);
        return;
    }
    m.await_state(0, (given.flags & feature::user_recovery_fail_io) != 0 ? dev_state::fail_io
                                                                         : dev_state::quiesced);
    m.call(again(ask(ctrl::start_user_recovery, 0), EBUSY)).want("0");
    m.call(ask(ctrl::start_user_recovery, 0)).want("0");
    m.attached(s);
    m.call(for_process(ctrl::end_user_recovery, 0, process::another)).want("EINVAL");
    m.call(for_process(ctrl::end_user_recovery, 0)).want("0");
    if (held) {
        m.expect(0, 4).want("q0 READ 8+8").commit(0, 4, 4096, 4).await(1).want("0 04*4096");
    }
    m.call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
    m.call(for_process(ctrl::end_user_recovery, 0)).want("EBUSY");
    m.passed(5, io(deed::read, 8, 8), 4096, "0 05*4096", 5);
    m.call(get_info(0)).want("0");
}

inline void add_deaths(scripts& all) {
    for (const mode& given : modes) {
        const std::string end = std::string{"_"} + given.name;
        const bool requeues = (given.flags & feature::user_recovery) != 0 &&
                              (given.flags & feature::user_recovery_fail_io) == 0;
        const bool reissues = (given.flags & feature::user_recovery_reissue) != 0;
        const shape s{.flags = given.flags};

        making idle{"death_of_an_idle_server" + end};
        idle.since(7, 3).live(s).opened().die(0);
        recover(idle, given, false);
        all.push_back(idle.done());

        making owning{"death_with_a_request" + end};
        owning.since(7, 3).live(s).opened();
        owning.client(1, io(deed::read, 8, 8)).expect(0, 1).want("q0 READ 8+8").die(0);
        owning.await(1, reissues ? a_while : patience).want(reissues ? "pending" : "EIO");
        recover(owning, given, reissues);
        all.push_back(owning.done());

        making deaf{"death_with_a_request_on_its_way" + end};
        deaf.since(7, 3).live(s).opened();
        deaf.client(1, io(deed::read, 8, 8)).pause().die(0);
        deaf.await(1, requeues ? a_while : patience).want(requeues ? "pending" : "EIO");
        recover(deaf, given, requeues);
        all.push_back(deaf.done());

        making late{"request_to_a_dead_server" + end};
        late.since(7, 3).live(s).opened().die(0).pause(300ms);
        late.client(1, io(deed::read, 8, 8));
        late.await(1, requeues ? a_while : patience)
            .want(requeues           ? "pending"
                  : given.flags == 0 ? "0"
                                     : "E");
        recover(late, given, requeues);
        all.push_back(late.done());
    }
}

inline void add_early_deaths(scripts& all) {
    for (const mode& given : {modes[0], modes[1]}) {
        const std::string end = std::string{"_"} + given.name;
        const shape s{.flags = given.flags};
        const auto revived = [&](making& m) {
            m.await_state(0, dev_state::dead).pause(300ms);
            m.call(ask(ctrl::start_user_recovery, 0)).want(given.flags == 0 ? "EINVAL" : "EBUSY");
            m.attached(s).started().opened();
            m.passed(5, io(deed::read, 8, 8), 4096, "0 05*4096", 5);
        };
        making fetched{"death_before_start" + end};
        fetched.since(7, 3).created(s).attached(s).die(0);
        revived(fetched);
        all.push_back(fetched.done());

        making partly{"death_while_fetching" + end};
        partly.since(7, 3).created(s).open(0).map(0, 0).port(0, 0, 2).fetch(0, 0, 0);
        partly.begin(1, for_process(ctrl::start_dev, 0)).finish(1, a_while).want("pending");
        partly.die(0).finish(1, a_while).want("pending").cancel(1).finish(1).want("EINTR");
        revived(partly);
        all.push_back(partly.done());
    }
}

inline void add_recoveries(scripts& all) {
    const shape s{.flags = feature::user_recovery};
    making m{"death_during_recovery"};
    m.since(7, 3).live(s).opened().die(0).await_state(0, dev_state::quiesced);
    m.client(1, io(deed::read, 8, 8));
    m.call(again(ask(ctrl::start_user_recovery, 0), EBUSY)).want("0");
    m.open(0).map(0, 0).port(0, 0, 2).fetch(0, 0, 0);
    m.call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
    m.begin(2, for_process(ctrl::end_user_recovery, 0)).finish(2, a_while).want("pending");
    m.die(0).finish(2, a_while).want("pending").cancel(2).finish(2).want("EINTR");
    m.await(1, a_while).want("pending");
    recover(m, modes[1], true);
    all.push_back(m.done());

    making n{"recovery_waits_for_fetches"};
    n.since(7, 3).live(s).opened().die(0).await_state(0, dev_state::quiesced);
    n.call(again(ask(ctrl::start_user_recovery, 0), EBUSY)).want("0");
    n.begin(2, for_process(ctrl::end_user_recovery, 0)).finish(2, a_while).want("pending");
    n.attached(s).finish(2).want("0");
    n.passed(5, io(deed::read, 8, 8), 4096, "0 05*4096", 5);
    all.push_back(n.done());

    for (const mode& given : {modes[1], modes[3]}) {
        making o{std::string{"stop_without_a_server_"} + given.name};
        const bool hangs = (given.flags & feature::user_recovery_fail_io) == 0;
        o.since(7, 3).live({.flags = given.flags}).opened().die(0);
        o.await_state(0, hangs ? dev_state::quiesced : dev_state::fail_io);
        o.client(1, io(deed::read, 8, 8)).await(1, hangs ? a_while : patience);
        o.call(ask(ctrl::quiesce_dev, 0, 100)).want("EOPNOTSUPP");
        o.call(set_params(0, params_of({}))).want("EACCES");
        o.call(ask(ctrl::stop_dev, 0)).want("0");
        o.await_state(0, dev_state::dead);
        if (hangs) {
            o.await(1).want("EIO");
        }
        o.call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
        all.push_back(o.done());
    }
}

inline void add_lost_threads(scripts& all) {
    making m{"a_thread_goes_and_the_channel_stays"};
    m.since(7, 3);
    const shape s{.queues = 2};
    m.created(s).open(0).map(0, 0).map(0, 1).port(0, 0, 2).port(0, 1, 2);
    m.fetch_all(0, 0, s).fetch_all(1, 1, s);
    m.begin(1000, for_process(ctrl::start_dev, 0)).serve(0).serve(1).finish(1000).want("0");
    m.hold(0).hold(1).opened().close_port(1).pause(300ms);
    client_action a = io(deed::read, 8, 8);
    a.queue = 0;
    m.client(1, a).await(1).want("EIO");
    m.nothing(0).call(get_info(0)).want("0");
    m.die(0).await_state(0, dev_state::dead);
    all.push_back(m.done());
}

inline void add_quiescing(scripts& all) {
    const shape s{.flags = feature::user_recovery | feature::quiesce};
    making m{"quiesce_an_idle_disk"};
    m.since(7, 3).live(s).opened();
    m.call(ask(ctrl::quiesce_dev, 0, 1000)).want("0").drain(0, 2).want("2 times ENODEV");
    m.call(get_info(0)).want("0").call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
    m.client(1, io(deed::read, 8, 8)).await(1, a_while).want("pending");
    m.call(ask(ctrl::quiesce_dev, 0, 1000), "again").want("0");
    m.close_port(0).close(0).await_state(0, dev_state::quiesced);
    m.call(ask(ctrl::quiesce_dev, 0, 1000), "already").want("0");
    recover(m, {"", s.flags}, true);
    all.push_back(m.done());

    making n{"quiesce_with_a_request"};
    n.since(7, 3).live(s).opened();
    n.client(1, io(deed::read, 8, 8)).expect(0, 1);
    n.call(ask(ctrl::quiesce_dev, 0, 1000)).want("0").drain(0, 1).want("1 times ENODEV");
    n.commit(0, 1, 4096, 6).await(1).want("0 06*4096").nothing(0);
    n.die(0);
    recover(n, {"", s.flags}, false);
    all.push_back(n.done());
}

// ---------------------------------------------------------------- several things at once

inline void add_concurrent_commands(scripts& all) {
    making m{"commands_while_stop_waits"};
    m.since(7, 3).live({}).opened();
    m.client(1, io(deed::read, 8, 8)).expect(0, 1);
    m.begin(2, ask(ctrl::stop_dev, 0)).finish(2, a_while).want("pending");
    m.begin(3, ask(ctrl::stop_dev, 0)).finish(3, a_while).want("pending");
    m.begin(4, for_process(ctrl::start_dev, 0)).finish(4, a_while).want("pending");
    m.begin(5, set_params(0, params_of({}))).finish(5, a_while).want("pending");
    m.begin(6, ask(ctrl::update_size, 0, 8)).finish(6, a_while).want("pending");
    m.call(get_info(0)).want("0").call(ask(ctrl::try_stop_dev, 0)).want("EBUSY");
    m.client(7, io(deed::read, 16, 8)).await(7);
    m.commit(0, 1, 4096, 1).await(1).want("0 01*4096");
    m.finish(2).want("0").finish(3).want("0").finish(4).want("EEXIST").finish(5).want("EACCES");
    m.finish(6).want("ENODEV").drain(0, 2).want("2 times ENODEV");
    all.push_back(m.done());

    making n{"two_devices"};
    n.since(7, 3).live({}, 0, 0).live({}, 1, 1).opened(1, 0).opened(2, 1);
    n.client(1, io(deed::read, 8, 8), 0).expect(0, 1).want("q0 READ 8+8");
    n.client(2, io(deed::read, 16, 8, 0, 2), 1).expect(1, 2).want("q0 READ 16+8");
    n.die(0).await(1).want("EIO").await_state(0, dev_state::dead);
    n.commit(1, 2, 4096, 2).await(2).want("0 02*4096");
    n.client(3, io(deed::read, 24, 8, 0, 2), 1).expect(1, 3).commit(1, 3, 4096, 3);
    n.await(3).want("0 03*4096").call(ask(ctrl::stop_dev, 1)).want("0");
    n.drain(1, 2).want("2 times ENODEV");
    all.push_back(n.done());

    making o{"deletion_waits_for_a_client"};
    o.live({}).opened().call(ask(ctrl::stop_dev, 0)).want("0").drain(0, 2).want("2 times ENODEV");
    o.close_port(0).close(0);
    o.begin(1, ask(ctrl::del_dev, 0)).finish(1, a_while).want("pending");
    o.call(get_info(0)).want("0").open(0, a_while).want("ENOENT");
    o.client(2, io(deed::read, 8, 8)).await(2).want("0");
    o.client(3, io(deed::close, 0, 0)).await(3).want("0").finish(1).want("0");
    all.push_back(o.done());

    making p{"start_after_try_stop"};
    p.since(7, 3).live({}).call(ask(ctrl::try_stop_dev, 0)).want("0");
    p.drain(0, 2).close_port(0).close(0).attached({}).started().opened();
    p.passed(1, io(deed::read, 8, 8), 4096, "0 01*4096", 1);
    all.push_back(p.done());
}

inline void add_crowded_deaths(scripts& all) {
    for (const mode& given : {modes[0], modes[1], modes[2]}) {
        const bool requeues = (given.flags & feature::user_recovery) != 0 &&
                              (given.flags & feature::user_recovery_fail_io) == 0;
        const bool reissues = (given.flags & feature::user_recovery_reissue) != 0;
        making m{std::string{"death_with_more_requests_than_tags_"} + given.name};
        const shape s{.depth = 1, .flags = given.flags};
        m.since(7, 3).live(s).opened();
        m.client(1, io(deed::read, 8, 8)).expect(0, 1).want("q0 READ 8+8");
        m.client(2, io(deed::read, 16, 8)).nothing(0).die(0);
        m.await(1, reissues ? a_while : patience).want(reissues ? "pending" : "EIO");
        m.await(2, requeues ? a_while : patience).want(requeues ? "pending" : "EIO");
        if (given.flags != 0) {
            m.await_state(0, dev_state::quiesced);
            m.call(again(ask(ctrl::start_user_recovery, 0), EBUSY)).want("0").attached(s);
            m.call(for_process(ctrl::start_dev, 0), "in place of END_USER_RECOVERY").want("EEXIST");
            m.call(for_process(ctrl::end_user_recovery, 0)).want("0");
        }
        if (reissues) {
            m.expect(0, 3).want("q0 READ 8+8").commit(0, 3, 4096, 3).await(1).want("0 03*4096");
        }
        if (requeues) {
            m.expect(0, 4).want("q0 READ 16+8").commit(0, 4, 4096, 4).await(2).want("0 04*4096");
        }
        all.push_back(m.done());
    }
    making n{"deletion_of_a_quiesced_disk"};
    n.since(7, 3).live({.flags = feature::user_recovery}).opened().die(0);
    n.await_state(0, dev_state::quiesced);
    n.client(1, io(deed::read, 8, 8)).await(1, a_while).want("pending");
    n.begin(2, ask(ctrl::del_dev, 0)).await(1).want("EIO").finish(2, a_while).want("pending");
    n.client(3, io(deed::close, 0, 0)).await(3).want("0").finish(2).want("0");
    all.push_back(n.done());
}

// ---------------------------------------------------------------- several queues

inline void add_two_queues(scripts& all) {
    const shape s{.queues = 2, .depth = 1, .flags = feature::user_recovery};
    client_action a = io(deed::read, 8, 8);
    a.queue = 0;
    client_action b = io(deed::read, 16, 8);
    b.queue = 1;

    making m{"recovery_queue_by_queue"};
    m.since(7, 3).live(s).opened().client(1, a).expect(0, 1).want("q0 READ 8+8");
    m.client(2, b).expect(0, 2).want("q1 READ 16+8");
    m.die(0).await(1).want("EIO").await(2).want("EIO").await_state(0, dev_state::quiesced);
    m.call(again(ask(ctrl::start_user_recovery, 0), EBUSY)).want("0");
    m.open(0).map(0, 0).map(0, 1).port(0, 0, 2).fetch(0, 0, 0);
    // A queue works as soon as all of it is fetched.
    m.client(3, a).expect(0, 3).want("q0 READ 8+8").commit(0, 3, 4096, 3).await(3).want("0");
    m.client(4, b).await(4, a_while).want("pending").nothing(0);
    m.begin(5, for_process(ctrl::end_user_recovery, 0)).finish(5, a_while).want("pending");
    m.fetch(0, 1, 0).finish(5).want("0");
    m.expect(0, 4).want("q1 READ 16+8").commit(0, 4, 4096, 4).await(4).want("0 04*4096");
    all.push_back(m.done());

    making n{"start_waits_for_the_last_queue"};
    n.created(s).open(0).map(0, 0).map(0, 1).port(0, 0, 2).fetch(0, 0, 0);
    n.begin(1, for_process(ctrl::start_dev, 0)).finish(1, a_while).want("pending");
    n.fetch(0, 1, 0).serve(0).finish(1).want("0").hold(0).opened();
    n.client(2, b).expect(0, 2).want("q1 READ 16+8").commit(0, 2, 4096, 2);
    n.await(2).want("0 02*4096");
    all.push_back(n.done());
}

inline void add_late_stops(scripts& all) {
    const shape s{.flags = feature::user_recovery | feature::quiesce};
    making m{"stop_after_quiesce"};
    m.since(7, 3).live(s).opened().client(1, io(deed::read, 8, 8)).expect(0, 1);
    m.call(ask(ctrl::quiesce_dev, 0, 1000)).want("0").drain(0, 1).want("1 times ENODEV");
    m.client(2, io(deed::read, 16, 8)).await(2, a_while).want("pending");
    m.begin(3, ask(ctrl::stop_dev, 0)).finish(3, a_while).want("pending");
    m.commit(0, 1, 4096, 1).await(1).want("0 01*4096").await(2).want("EIO").finish(3).want("0");
    m.expect(0, 9).want("request 1 ENODEV");
    all.push_back(m.done());

    // While STOP_DEV waits, such a disk holds new requests back.
    making o{"stop_of_a_recoverable_disk"};
    o.since(7, 3).live({.flags = feature::user_recovery}).opened();
    o.client(1, io(deed::read, 8, 8)).expect(0, 1);
    o.begin(3, ask(ctrl::stop_dev, 0)).finish(3, a_while).want("pending");
    o.client(2, io(deed::read, 16, 8)).await(2, a_while).want("pending").nothing(0);
    o.commit(0, 1, 4096, 1).await(1).want("0 01*4096").await(2).want("EIO").finish(3).want("0");
    o.drain(0, 2).want("2 times ENODEV");
    all.push_back(o.done());

    making n{"quiesce_with_a_request_on_its_way"};
    n.since(7, 3).live(s).opened().client(1, io(deed::read, 8, 8)).pause();
    n.call(ask(ctrl::quiesce_dev, 0, 1000)).want("0");
    n.expect(0, 9).await(1, a_while).die(0).await(1, a_while);
    n.await_state(0, dev_state::quiesced);
    all.push_back(n.done());
}

inline void add_references(scripts& all) {
    making m{"a_port_holds_the_channel"};
    m.live({}).opened().shut(0).open(0, a_while).want("EBUSY");
    m.passed(1, io(deed::read, 8, 8), 4096, "0 01*4096", 1);
    m.call(ask(ctrl::stop_dev, 0)).want("0").drain(0, 2).want("2 times ENODEV");
    m.client(2, io(deed::close, 0, 0)).await(2).want("0");
    m.unmap(0, 0).begin(3, ask(ctrl::del_dev, 0)).finish(3, a_while).want("pending");
    m.close_port(0).finish(3).want("0");
    all.push_back(m.done());

    making n{"a_map_holds_the_channel"};
    n.created({}).open(0).want("0").map(0, 0).want("0").shut(0);
    n.open(0, a_while).want("EBUSY");
    n.begin(1, ask(ctrl::del_dev, 0)).finish(1, a_while).want("pending");
    n.unmap(0, 0).finish(1).want("0");
    all.push_back(n.done());
}

}  // namespace ublk_test::differential
