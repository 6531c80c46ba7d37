// SPDX-License-Identifier: MIT
#pragma once

// Requests: what of them reaches the server, and what its answers do.

#include "making.hpp"

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

namespace ublk_test::differential {

// ---------------------------------------------------------------- requests

inline void add_requests(scripts& all) {
    making m{"reads_and_writes"};
    m.live({}).call(get_info(0)).want("0").call(get_params(0)).want("0");
    m.opened();
    m.passed(1, io(deed::read, 8, 8), 4096, "0 5a*4096", 0x5a);
    m.passed(2, io(deed::write, 16, 8, 0x77), 4096, "0");
    m.passed(3, io(deed::read, 0, 1), 512, "0 11*512", 0x11);
    m.passed(4, io(deed::read, 2047, 1), 512, "0 12*512", 0x12);
    m.passed(5, io(deed::write, 0, 128, 0x78), 65536, "0");
    m.client(6, io(deed::flush, 0, 0)).await(6).want("0");
    m.nothing(0);
    m.passed(7, io(deed::durable_write, 24, 8, 0x79), 4096, "0");
    m.client(8, io(deed::discard, 0, 8)).await(8).want("EOPNOTSUPP");
    m.client(9, io(deed::punch_hole, 0, 8)).await(9).want("EOPNOTSUPP");
    m.client(10, io(deed::read, 2048, 1)).await(10).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.drain(0, 2).want("2 times ENODEV");
    m.call(get_info(0)).want("0").call(get_params(0)).want("0");
    // The disk that is gone has no bytes any more.
    m.client(11, io(deed::read, 8, 8)).await(11).want("0");
    all.push_back(m.done());

    making n{"a_read_larger_than_a_request"};
    n.live({.depth = 4}).opened();
    n.client(1, io(deed::read, 0, 256));
    n.expect(0, 1).want("q0 READ 0+128").expect(0, 2).want("q0 READ 128+128");
    n.commit(0, 1, 65536, 0x31).commit(0, 2, 65536, 0x32);
    n.await(1).want("0 31*65536 32*65536");
    all.push_back(n.done());
}

inline void add_flushes(scripts& all) {
    using namespace uapi::attr;
    making m{"flush_with_fua"};
    m.live({.attrs = volatile_cache | fua}).opened();
    m.client(1, io(deed::flush, 0, 0)).expect(0, 1).want("q0 FLUSH");
    m.commit(0, 1, 0).await(1).want("0");
    m.client(2, io(deed::durable_write, 8, 8, 0x22)).expect(0, 2).want("q0 WRITE FUA 8+8");
    m.commit(0, 2, 4096).expect(0, 3).want("q0 FLUSH").commit(0, 3, 0).await(2).want("0");
    m.client(4, io(deed::flush, 0, 0)).expect(0, 4).commit(0, 4, -EIO).await(4).want("EIO");
    m.passed(5, io(deed::write, 8, 8, 0x23), 4096, "0");
    all.push_back(m.done());

    making n{"flush_without_fua"};
    n.live({.attrs = volatile_cache}).opened();
    n.client(1, io(deed::durable_write, 8, 8, 0x22)).expect(0, 1).want("q0 WRITE 8+8");
    n.commit(0, 1, 4096).expect(0, 2).want("q0 FLUSH").commit(0, 2, 0);
    n.expect(0, 3, a_while).commit(0, 3, 0).await(1);
    all.push_back(n.done());

    making o{"fua_without_cache"};
    o.live({.attrs = fua}).opened();
    o.passed(1, io(deed::durable_write, 8, 8, 0x22), 4096, "0");
    o.client(2, io(deed::flush, 0, 0)).await(2).want("0");
    o.nothing(0);
    all.push_back(o.done());
}

inline void add_trimming(scripts& all) {
    making m{"discards_and_zeroes"};
    m.live({.trims = true}).opened();
    m.passed(1, io(deed::discard, 8, 8), 0, "0");
    m.passed(2, io(deed::discard, 0, 256), 0, "0");
    m.passed(3, io(deed::punch_hole, 16, 8), 0, "0");
    m.passed(4, io(deed::zero_out, 24, 8), 0, "0");
    m.passed(5, io(deed::discard, 8, 8), -EIO, "EIO");
    m.passed(6, io(deed::zero_out, 24, 8), -ENOSPC, "ENOSPC");
    m.passed(7, io(deed::discard, 8, 8), 7, "0");
    all.push_back(m.done());

    making n{"zeroes_by_writing"};
    n.live({}).opened();
    n.passed(1, io(deed::zero_out, 24, 8), 4096, "0");
    all.push_back(n.done());
}

inline void add_results(scripts& all) {
    making m{"short_reads"};
    m.live({.depth = 1}).opened();
    m.client(1, io(deed::read, 8, 8)).expect(0, 1).want("q0 READ 8+8").commit(0, 1, 512, 0x41);
    m.expect(0, 2).want("q0 READ 9+7").commit(0, 2, 1024, 0x42);
    m.expect(0, 3).want("q0 READ 11+5").commit(0, 3, 2560, 0x43);
    m.await(1).want("0 41*512 42*1024 43*2560");
    m.client(4, io(deed::read, 8, 8)).expect(0, 4).commit(0, 4, 512, 0x41);
    m.expect(0, 5).commit(0, 5, -EIO).await(4).want("EIO");
    m.passed(6, io(deed::read, 8, 8), 0, "EIO", 0x44);
    all.push_back(m.done());

    making n{"short_and_long_results"};
    n.since(7, 3).live({.depth = 1}).opened();
    n.passed(1, io(deed::write, 8, 8, 0x46), 512, "0");
    n.passed(2, io(deed::write, 8, 8, 0x47), 0, "0");
    n.passed(3, io(deed::write, 8, 8, 0x48), 100000, "0");
    n.passed(4, io(deed::read, 8, 8), 100000, "0 45*4096", 0x45);  // 6.12 warns
    all.push_back(n.done());

    // Older drivers asked again for what a short result leaves.
    making o{"short_writes_of_old"};
    o.until(6, 13).live({.depth = 1}).opened();
    o.client(1, io(deed::write, 8, 8, 0x46)).expect(0, 1).commit(0, 1, 512);
    o.expect(0, 2).commit(0, 2, 0).expect(0, 3).commit(0, 3, 3584).await(1);
    all.push_back(o.done());
}

inline void add_errnos(scripts& all) {
    making m{"errnos"};
    m.live({.depth = 1}).opened();
    const std::pair<int, const char*> codes[] = {{EOPNOTSUPP, "EOPNOTSUPP"},
                                                 {ETIMEDOUT, "ETIMEDOUT"},
                                                 {ENOSPC, "ENOSPC"},
                                                 {ENOLINK, "ENOLINK"},
                                                 {EREMOTEIO, "EREMOTEIO"},
                                                 {EBADE, "EBADE"},
                                                 {ENODATA, "ENODATA"},
                                                 {EILSEQ, "EILSEQ"},
                                                 {ENOMEM, "ENOMEM"},
                                                 {EBUSY, "EBUSY"},
                                                 {EAGAIN, "EAGAIN"},
                                                 {ENODEV, "ENODEV"},
                                                 {EOVERFLOW, "EOVERFLOW"},
                                                 {ETOOMANYREFS, "ETOOMANYREFS"},
                                                 {ETIME, "ETIME"},
                                                 {EINVAL, "EINVAL"},
                                                 {EIO, "EIO"},
                                                 {EPERM, "EIO"},
                                                 {ENOENT, "EIO"},
                                                 {EINTR, "EIO"},
                                                 {EROFS, "EIO"},
                                                 {4095, "EIO"},
                                                 {5000, "EIO"}};
    unsigned number = 0;
    for (const auto& [code, want] : codes) {
        m.passed(++number, io(deed::read, 8, 8), -code, want);
        m.passed(++number, io(deed::write, 8, 8, 1), -code, want);
    }
    all.push_back(m.done());
}

inline void add_queues(scripts& all) {
    making m{"two_queues_two_threads"};
    const shape s{.queues = 2};
    m.created(s).open(0).want("0").map(0, 0).want("0").map(0, 1).want("0");
    m.port(0, 0, 2).want("0").port(0, 1, 2).want("0");
    m.fetch_all(0, 0, s).fetch_all(1, 1, s);
    m.begin(1000, for_process(ctrl::start_dev, 0)).serve(0).serve(1).finish(1000).want("0");
    m.hold(0).hold(1).opened();
    client_action a = io(deed::read, 8, 8);
    a.queue = 0;
    client_action b = io(deed::write, 16, 8, 0x66);
    b.queue = 1;
    m.client(1, a).client(2, b);
    m.expect(0, 1).want("q0 READ 8+8").expect(1, 2).want("q1 WRITE 16+8 66*4096");
    m.commit(1, 1, 4096).expect(1, 3).want("request 1 EINVAL");
    m.commit(0, 1, 4096, 0x61).commit(1, 2, 4096);
    m.await(1).want("0 61*4096").await(2).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.drain(0, 2).want("2 times ENODEV").drain(1, 2).want("2 times ENODEV");
    all.push_back(m.done());

    making n{"several_at_once"};
    n.live({.depth = 4}).opened();
    for (unsigned i = 1; i <= 4; ++i) {
        n.client(i, io(deed::read, 8 * i, 8)).expect(0, i);
    }
    n.client(5, io(deed::read, 64, 8)).nothing(0);
    for (const unsigned i : {3u, 1u}) {
        n.commit(0, i, 4096, static_cast<std::uint8_t>(i)).await(i).want("0");
    }
    n.expect(0, 5).want("q0 READ 64+8");
    for (const unsigned i : {5u, 4u, 2u}) {
        n.commit(0, i, 4096, static_cast<std::uint8_t>(i)).await(i).want("0");
    }
    all.push_back(n.done());
}

inline void add_user_copy(scripts& all) {
    making m{"user_copy_without_copying"};
    m.created({.depth = 1, .flags = feature::user_copy}).open(0).map(0, 0).port(0, 0, 1);
    m.fetch(0, 0, 0).expect(0, 1).want("q0 t0 EINVAL");
    m.fetch(0, 0, 0, false);
    m.begin(1000, for_process(ctrl::start_dev, 0)).serve(0).finish(1000).want("0").hold(0);
    m.opened();
    m.client(2, io(deed::read, 8, 8)).expect(0, 2).want("q0 READ 8+8");
    m.commit(0, 2, 4096).expect(0, 3).want("request 2 EINVAL");
    m.commit(0, 2, 4096, 0, false).await(2).want("0 ee*4096");
    m.client(4, io(deed::write, 8, 8, 0x33)).expect(0, 4).want("q0 WRITE 8+8");
    m.commit(0, 4, 4096, 0, false).await(4).want("0");
    all.push_back(m.done());

    making n{"user_copy_and_a_short_result"};
    n.since(7, 3).created({.depth = 1, .flags = feature::user_copy});
    n.open(0).map(0, 0).port(0, 0, 1).fetch(0, 0, 0, false);
    n.call(for_process(ctrl::start_dev, 0)).want("0").opened();
    n.client(1, io(deed::read, 8, 8)).expect(0, 1).commit(0, 1, 512, 0, false);
    n.await(1).want("0 ee*4096");
    n.client(2, io(deed::read, 8, 8)).expect(0, 2).commit(0, 2, 0, 0, false).await(2).want("EIO");
    all.push_back(n.done());
}

inline void add_get_data(scripts& all) {
    making m{"get_data_that_nobody_gets"};
    m.since(7, 3);
    m.created({.depth = 1, .flags = feature::need_get_data}).open(0).map(0, 0).port(0, 0, 1);
    m.fetch(0, 0, 0, false);
    m.begin(1000, for_process(ctrl::start_dev, 0)).serve(0).finish(1000).want("0").hold(0);
    m.opened();
    m.client(1, io(deed::read, 8, 8)).expect(0, 1).want("q0 READ 8+8");
    m.commit(0, 1, 4096, 0, false).expect(0, 2).want("request 1 EINVAL");
    m.commit(0, 1, 4096, 0x20).await(1).want("0 20*4096");
    m.client(3, io(deed::write, 8, 8, 0x21)).expect(0, 3).want("result 1 q0 WRITE 8+8");
    m.commit(0, 3, 4096).expect(0, 4).want("request 3 EINVAL");
    m.die(0).await(3).want("EIO").await_state(0, dev_state::dead);
    all.push_back(m.done());
}

// ---------------------------------------------------------------- how bios become requests

inline void add_splits(scripts& all) {
    const auto pieces = [](making& m, unsigned first, const client_action& a,
                           std::initializer_list<std::pair<const char*, int>> parts) {
        m.client(first, a);
        unsigned number = first;
        for (const auto& [kind, result] : parts) {
            m.expect(0, number).want(kind).commit(0, number, result, 0x10);
            ++number;
        }
        m.await(first).want("0").nothing(0);
    };
    making m{"chunks"};
    m.live({.depth = 8, .chunk = 16}).opened();
    pieces(m, 1, io(deed::read, 8, 24), {{"q0 READ 8+8", 4096}, {"q0 READ 16+16", 8192}});
    pieces(m, 11, io(deed::write, 12, 8, 1), {{"q0 WRITE 12+4", 2048}, {"q0 WRITE 16+4", 2048}});
    all.push_back(m.done());

    making n{"trims_in_pieces"};
    n.live({.depth = 8, .trims = true}).opened();
    pieces(n, 1, io(deed::discard, 0, 600),
           {{"q0 DISCARD 0+256", 0}, {"q0 DISCARD 256+256", 0}, {"q0 DISCARD 512+88", 0}});
    pieces(n, 11, io(deed::zero_out, 0, 600),
           {{"q0 WRITE_ZEROES NOUNMAP 0+256", 0},
            {"q0 WRITE_ZEROES NOUNMAP 256+256", 0},
            {"q0 WRITE_ZEROES NOUNMAP 512+88", 0}});
    all.push_back(n.done());

    // Requests end where a physical block does, discards begin where their granularity allows.
    making o{"out_of_line"};
    o.live({.depth = 8, .trims = true}).opened();
    pieces(o, 1, io(deed::read, 3, 128), {{"q0 READ 3+125", 64000}, {"q0 READ 128+3", 1536}});
    pieces(o, 11, io(deed::read, 3, 125), {{"q0 READ 3+125", 64000}});
    pieces(o, 21, io(deed::write, 7, 250, 1),
           {{"q0 WRITE 7+121", 61952}, {"q0 WRITE 128+128", 65536}, {"q0 WRITE 256+1", 512}});
    pieces(o, 31, io(deed::zero_out, 4, 300),
           {{"q0 WRITE_ZEROES NOUNMAP 4+252", 0},
            {"q0 WRITE_ZEROES NOUNMAP 256+4", 0},
            {"q0 WRITE_ZEROES NOUNMAP 260+44", 0}});
    pieces(o, 41, io(deed::discard, 4, 300),
           {{"q0 DISCARD 4+4", 0}, {"q0 DISCARD 8+256", 0}, {"q0 DISCARD 264+40", 0}});
    all.push_back(o.done());

    making p{"blocks_of_a_page"};
    p.live({.trims = true, .block_shift = 12}).opened();
    p.client(1, io(deed::read, 8, 1)).await(1).want("EINVAL");
    p.client(2, io(deed::read, 1, 8)).await(2).want("EINVAL");
    p.passed(3, io(deed::read, 8, 8), 4096, "0 03*4096", 3);
    p.client(4, io(deed::discard, 4, 8)).await(4).want("EINVAL");
    p.passed(5, io(deed::discard, 8, 8), 0, "0");
    all.push_back(p.done());
}

inline void add_dirty_pages(scripts& all) {
    for (const bool cache : {false, true}) {
        making m{cache ? "dirty_pages_and_a_cache" : "dirty_pages"};
        m.live({.attrs = cache ? uapi::attr::volatile_cache : 0});
        m.opened(1, 0, deed::open_cached);
        m.client(1, io(deed::write, 16, 8, 0x71)).await(1).want("0");
        m.nothing(0);
        m.begin(2, ask(ctrl::stop_dev, 0)).expect(0, 3).want("q0 WRITE 16+8 71*4096");
        m.finish(2, a_while).want("pending");
        m.commit(0, 3, 4096).finish(2).want("0").drain(0, 2).want("2 times ENODEV");
        m.client(5, io(deed::close, 0, 0)).await(5).want("0");
        all.push_back(m.done());
    }
}

inline void add_scans(scripts& all) {
    making m{"requests_of_the_partition_scan"};
    m.since(7, 3);
    uapi::dev_info scanned = info_of({});
    scanned.flags = 0;
    m.call(add(0, scanned)).want("0").call(set_params(0, params_of({}))).want("0");
    m.attached({}).call(for_process(ctrl::start_dev, 0)).want("0");
    m.expect(0, 1).want("q0 READ 0+8").commit(0, 1, 4096, 0);
    for (unsigned i = 2; i <= 5; ++i) {
        m.expect(0, i, a_while).commit(0, i, 4096, 0);
    }
    m.nothing(0);
    all.push_back(m.done());
}

// ---------------------------------------------------------------- commands that are not in order

inline void add_fetch_errors(scripts& all) {
    making m{"fetch_errors"};
    m.created({}).open(0).want("0").map(0, 0).want("0").port(0, 0, 8).want("0");
    m.fetch(0, 1, 0).expect(0, 1).want("q1 t0 EINVAL");
    m.fetch(0, 65535, 0).expect(0, 1).want("q65535 t0 EINVAL");
    m.fetch(0, 0, 2).expect(0, 1).want("q0 t2 EINVAL");
    m.fetch(0, 0, 65535).expect(0, 1).want("q0 t65535 EINVAL");
    m.fetch(0, 0, 0, false).expect(0, 1).want("q0 t0 EINVAL");
    m.commit_tag(0, 0, 0, 0).expect(0, 1).want("q0 t0 EINVAL");
    m.fetch(0, 0, 0).nothing(0);
    m.fetch(0, 0, 0).expect(0, 1).want("q0 t0 EINVAL");
    m.commit_tag(0, 0, 0, 0).expect(0, 1).want("q0 t0 EBUSY");
    m.commit_tag(0, 0, 7, 0).expect(0, 1).want("q0 t7 EINVAL");
    m.commit_tag(0, 3, 0, 0).expect(0, 1).want("q3 t0 EINVAL");
    m.fetch(0, 0, 1).nothing(0);
    m.fetch(0, 0, 1).expect(0, 1).want("q0 t1 EBUSY");
    m.started();
    m.fetch(0, 0, 1).expect(0, 1).want("q0 t1 EBUSY");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.drain(0, 2).want("2 times ENODEV");
    all.push_back(m.done());
}

inline void add_commit_errors(scripts& all) {
    making m{"commit_errors"};
    m.live({.depth = 1}).port(0, 1, 1).want("0").opened();
    m.client(1, io(deed::read, 8, 8)).expect(0, 1).want("q0 READ 8+8");
    m.commit_tag(1, 0, 0, 4096).expect(1, 9).want("q0 t0 EINVAL");
    m.commit(0, 1, 4096, 0, false).expect(0, 9).want("request 1 EINVAL");
    m.fetch(0, 0, 0).expect(0, 9).want("q0 t0 EBUSY");
    m.commit(0, 1, 4096, 0x51).await(1).want("0 51*4096");
    m.commit(0, 1, 4096, 0x52).expect(0, 9).want("request 1 EBUSY");
    m.passed(2, io(deed::read, 16, 8), 4096, "0 53*4096", 0x53);
    all.push_back(m.done());

    making n{"two_threads_one_queue"};
    n.since(7, 3);
    n.created({}).open(0).map(0, 0).port(0, 0, 2).port(0, 1, 2);
    n.fetch(0, 0, 0).fetch(1, 0, 1);
    n.begin(1000, for_process(ctrl::start_dev, 0)).serve(0).serve(1).finish(1000).want("0");
    n.hold(0).hold(1);
    n.commit_tag(1, 0, 0, 0).expect(1, 9).want("q0 t0 EINVAL");
    n.commit_tag(0, 0, 1, 0).expect(0, 9).want("q0 t1 EINVAL");
    n.commit_tag(1, 0, 1, 0).expect(1, 9).want("q0 t1 EBUSY");
    n.call(ask(ctrl::stop_dev, 0)).want("0");
    n.drain(0, 1).want("1 times ENODEV").drain(1, 1).want("1 times ENODEV");
    all.push_back(n.done());
}

inline void add_stopping(scripts& all) {
    making m{"fetch_while_stopping"};
    m.since(7, 3);
    m.created({}).open(0).map(0, 0).port(0, 0, 4);
    m.fetch(0, 0, 0).nothing(0);
    m.begin(1, for_process(ctrl::start_dev, 0)).finish(1, a_while).want("pending");
    m.begin(2, for_process(ctrl::start_dev, 0, process::another)).finish(2, a_while);
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.finish(1).want("EBUSY").finish(2).want("EINVAL");
    m.expect(0, 9).want("q0 t0 ENODEV");
    m.fetch(0, 0, 0).expect(0, 9).want("q0 t0 ENODEV");
    m.fetch(0, 0, 1).expect(0, 9).want("q0 t1 ENODEV");
    m.fetch(0, 0, 2).expect(0, 9).want("q0 t2 EINVAL");
    m.call(for_process(ctrl::start_dev, 0)).want("EBUSY");
    m.call(set_params(0, params_of({}))).want("0");
    m.close_port(0).close(0);
    m.attached({}).started().opened();
    m.passed(3, io(deed::read, 8, 8), 4096, "0 01*4096", 1);
    all.push_back(m.done());

    making n{"stop_before_start"};
    n.created({}).attached({});
    n.call(ask(ctrl::stop_dev, 0)).want("0");
    n.drain(0, 2).want("2 times ENODEV");
    all.push_back(n.done());
}

// ---------------------------------------------------------------- other modes

inline void add_modes(scripts& all) {
    making m{"large_descriptors"};
    m.since(7, 3).live({.depth = 4, .flags = feature::io_desc_size, .descriptor = 64}).opened();
    for (unsigned i = 1; i <= 4; ++i) {
        m.client(i, io(deed::read, 8 * i, 8)).expect(0, i).want("q0 READ " + std::to_string(8 * i));
    }
    for (unsigned i = 1; i <= 4; ++i) {
        m.commit(0, i, 4096, 9).await(i).want("0 09*4096");
    }
    all.push_back(m.done());

    making n{"zero_copy_without_copying"};
    n.since(7, 3).created({.depth = 1, .flags = feature::support_zero_copy});
    n.open(0).map(0, 0).port(0, 0, 1).fetch(0, 0, 0).expect(0, 1).want("q0 t0 EINVAL");
    n.fetch(0, 0, 0, false).call(for_process(ctrl::start_dev, 0)).want("0").opened();
    n.client(2, io(deed::read, 8, 8)).expect(0, 2).want("q0 READ 8+8");
    n.commit(0, 2, 4096, 0, false).await(2).want("0 ee*4096");
    all.push_back(n.done());

    making o{"batches_are_not_for_single_commands"};
    o.since(7, 3).created({.flags = feature::batch_io}).open(0).map(0, 0).port(0, 0, 2);
    o.fetch(0, 0, 0).expect(0, 1).want("q0 t0 EOPNOTSUPP");
    o.fetch(0, 0, 5).expect(0, 1).want("q0 t5 EINVAL");
    o.commit_tag(0, 0, 0, 0).expect(0, 1).want("q0 t0 EOPNOTSUPP");
    all.push_back(o.done());

    making p{"automatic_buffers_without_a_table"};
    p.since(7, 3).created({.depth = 1, .flags = feature::auto_buf_reg});
    p.open(0).map(0, 0).port(0, 0, 1).fetch(0, 0, 0).expect(0, 1).want("q0 t0 EINVAL");
    p.fetch(0, 0, 0, false).call(for_process(ctrl::start_dev, 0)).want("0").opened();
    p.client(2, io(deed::read, 8, 8)).nothing(0).await(2).want("EIO");
    all.push_back(p.done());
}

}  // namespace ublk_test::differential
