// SPDX-License-Identifier: MIT
#pragma once

// Control commands, good and bad, on devices that never go live.

#include "making.hpp"

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

namespace ublk_test::differential {

// ---------------------------------------------------------------- control commands

inline void add_features(scripts& all) {
    making m{"features"};
    for (const std::uint16_t len : lengths{8, 0, 7, 9, 64}) {
        command c = ask(ctrl::get_features, -1);
        c.len = len;
        m.call(c, "len " + std::to_string(len)).want(len == 8 ? "0 0x" : "EINVAL");
    }
    command bare = ask_by_id(uapi::legacy(ctrl::get_features), 987654);
    bare.len = 8;
    m.call(bare, "without its encoding").want("ENODEV");
    m.created({});
    bare = ask(uapi::legacy(ctrl::get_features), 0);
    bare.len = 8;
    m.call(bare, "without its encoding").want("EOPNOTSUPP");
    all.push_back(m.done());
}

inline void add_unknown_commands(scripts& all) {
    making m{"unknown_commands"};
    constexpr std::uint32_t other_type = (ctrl::get_dev_info & ~0xff00u) | 'v' << 8;
    for (const std::uint32_t nr : {0x03u, 0x0au, 0x1fu, 0x30u, 0xffu}) {
        m.call(ask_by_id(ctrl::act(nr), 987654)).want("ENODEV");
    }
    m.call(ask_by_id(other_type, 987654), "of another driver").want("EOPNOTSUPP");
    m.created({});
    for (const std::uint32_t nr : {0x03u, 0x0au, 0x1fu, 0x30u, 0xffu}) {
        m.call(ask(ctrl::act(nr), 0)).want("EOPNOTSUPP");
    }
    m.call(ask(other_type, 0), "of another driver").want("EOPNOTSUPP");
    command bare = get_info(0);
    bare.op = uapi::legacy(bare.op);
    m.call(bare, "without its encoding").want("0");
    bare.op = ctrl::act(0x02);
    m.call(bare, "with another direction").want("0");
    all.push_back(m.done());
}

inline void add_unknown_devices(scripts& all) {
    making m{"unknown_devices"};
    for (const std::uint32_t id : {987654u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        for (const std::uint32_t op :
             {ctrl::get_queue_affinity, ctrl::get_dev_info, ctrl::del_dev, ctrl::start_dev,
              ctrl::stop_dev, ctrl::set_params, ctrl::get_params, ctrl::start_user_recovery,
              ctrl::end_user_recovery, ctrl::get_dev_info2, ctrl::del_dev_async, ctrl::update_size,
              ctrl::quiesce_dev, ctrl::try_stop_dev, ctrl::reg_buf, ctrl::unreg_buf}) {
            m.call(ask_by_id(op, id)).want("ENODEV");
        }
    }
    all.push_back(m.done());
}

/// One device that is added and, where that worked, deleted.
inline void try_to_add(making& m, command c, const std::string& note, const std::string& want) {
    m.call(std::move(c), note).want(want);
    if (want.starts_with("0")) {
        m.call(get_info(0));
        m.call(ask(ctrl::del_dev, 0)).want("0");
    }
}

inline void add_add_dev(scripts& all) {
    making m{"add_dev_numbers"};
    const struct {
        std::uint16_t queues, depth;
        const char* want;
    } sizes[] = {{0, 4, "EINVAL"},    {1, 0, "EINVAL"},     {4097, 4, "EINVAL"},
                 {1, 4097, "EINVAL"}, {65535, 1, "EINVAL"}, {1, 65535, "EINVAL"},
                 {4096, 1, "0"},      {1, 4096, "0"},       {2, 3, "0"}};
    for (const auto& [queues, depth, want] : sizes) {
        shape s;
        s.queues = queues;
        s.depth = depth;
        try_to_add(m, add(0, info_of(s)),
                   "queues " + std::to_string(queues) + ", depth " + std::to_string(depth), want);
    }
    for (const std::uint32_t bytes : {0u, 1u, 4095u, 4096u, 5000u, 1u << 25, 0xffffffffu}) {
        shape s;
        s.buffer = bytes;
        try_to_add(m, add(0, info_of(s)), "buffer " + std::to_string(bytes), "0");
    }
    for (const std::uint16_t len : lengths{0, 1, 63, 64, 65, 128}) {
        command c = add(0, info_of({}));
        c.len = len;
        try_to_add(m, c, "len " + std::to_string(len), len < 64 ? "EINVAL" : "0");
    }
    for (const std::uint16_t queue : lengths{0, 1, 0xfffe}) {
        command c = add(0, info_of({}));
        c.queue_id = queue;
        try_to_add(m, c, "queue id " + std::to_string(queue), "EINVAL");
    }
    command c = add(0, info_of({}));
    c.op = uapi::legacy(c.op);
    try_to_add(m, c, "without its encoding", "0");
    all.push_back(m.done());
}

inline void add_add_dev_ids(scripts& all) {
    making m{"add_dev_ids"};
    const auto with_id = [](std::uint32_t id) { return add(0, info_of({}), id); };
    try_to_add(m, with_id(77), "id 77", "0 id of d0");
    try_to_add(m, with_id((1u << 20) - 1), "the last id", "0 id of d0");
    try_to_add(m, with_id(1u << 20), "one more", "EINVAL");
    try_to_add(m, with_id(0x7fffffff), "id 0x7fffffff", "EINVAL");
    try_to_add(m, with_id(0xfffffffe), "id 0xfffffffe", "EINVAL");
    command c = with_id(77);
    c.other_id_inside = true;
    try_to_add(m, c, "another id inside", "EINVAL");
    m.call(with_id(77)).want("0");
    m.call(add(1, info_of({}), 77), "the same id").want("EEXIST");
    m.call(add(1, info_of({}), 78)).want("0");
    m.call(add(2, info_of({}))).want("0");
    for (const int d : {0, 1, 2}) {
        m.call(ask(ctrl::del_dev, d)).want("0");
        m.call(ask(ctrl::del_dev, d)).want("ENODEV");
    }
    m.call(with_id(77), "free again").want("0");
    all.push_back(m.done());
}

inline void add_add_dev_flags(scripts& all) {
    using namespace feature;
    making m{"add_dev_flags"};
    const struct {
        std::uint64_t flags;
        const char* note;
        const char* want;
    } cases[] = {
        {0, "none", "0"},
        {user_recovery, "recovery", "0"},
        {user_recovery_reissue, "reissue alone", "EINVAL"},
        {user_recovery | user_recovery_reissue, "recovery reissue", "0"},
        {need_get_data, "get data", "0"},
        {need_get_data | user_copy, "get data, user copy", "0"},
        {user_copy, "user copy", "0"},
        {unprivileged_dev, "unprivileged", "0"},
        {unprivileged_dev | user_copy, "unprivileged user copy", "0"},
        {zoned, "zoned alone", "EINVAL"},
        {zoned | user_copy, "zoned user copy", "0"},
        {uring_cmd_comp_in_task, "in task", "0"},
        {1ull << 40, "unknown", "0"},
        {1ull << 63, "unknown too", "0"},
    };
    for (const auto& c : cases) {
        shape s;
        s.flags = c.flags;
        try_to_add(m, add(0, info_of(s)), c.note, c.want);
    }
    uapi::dev_info full = info_of({});
    full.server_flags = 0x1122334455667788;
    full.owner_uid = 12;
    full.owner_gid = 34;
    full.reserved1 = 56;
    full.reserved2 = 78;
    full.pad1 = 90;
    try_to_add(m, add(0, full), "every field", "0");
    all.push_back(m.done());
}

inline void add_add_dev_new_flags(scripts& all) {
    using namespace feature;
    making m{"add_dev_flags_of_7"};
    m.since(7, 3);
    const struct {
        std::uint64_t flags;
        const char* note;
        const char* want;
    } cases[] = {
        {support_zero_copy, "zero copy", "0"},
        {support_zero_copy | need_get_data, "zero copy, get data", "0"},
        {user_recovery_fail_io, "fail io alone", "EINVAL"},
        {user_recovery | user_recovery_fail_io, "recovery fail io", "0"},
        {user_recovery_reissue | user_recovery_fail_io, "reissue fail io", "EINVAL"},
        {user_recovery | user_recovery_reissue | user_recovery_fail_io, "all three", "EINVAL"},
        {update_size, "update size", "0"},
        {auto_buf_reg, "auto buffer", "0"},
        {auto_buf_reg | need_get_data, "auto buffer, get data", "0"},
        {quiesce, "quiesce alone", "EINVAL"},
        {quiesce | user_recovery, "quiesce", "0"},
        {zoned | support_zero_copy, "zoned zero copy", "0"},
        {zoned | auto_buf_reg, "zoned auto buffer", "EINVAL"},
        {batch_io, "batch", "0"},
        {batch_io | need_get_data, "batch, get data", "0"},
        {integrity, "integrity alone", "EINVAL"},
        {integrity | user_copy, "integrity", "0"},
        {shmem_zc, "shared memory", "0"},
        {shmem_zc | need_get_data, "shared memory, get data", "0"},
        {user_copy | support_zero_copy | auto_buf_reg, "all modes", "0"},
    };
    for (const auto& c : cases) {
        shape s;
        s.flags = c.flags;
        try_to_add(m, add(0, info_of(s)), c.note, c.want);
    }
    for (const std::uint16_t size : lengths{0, 8, 16, 24, 25, 28, 32, 64, 248, 256, 264, 65535}) {
        uapi::dev_info info = info_of({});
        info.io_desc_size = size;
        try_to_add(m, add(0, info), "descriptor unasked " + std::to_string(size), "0");
        info.flags |= io_desc_size;
        const bool good = size >= 24 && size <= 256 && size % 8 == 0;
        try_to_add(m, add(0, info), "descriptor " + std::to_string(size), good ? "0" : "EINVAL");
    }
    uapi::dev_info living = info_of({});
    living.state = dev_state::live;
    living.pid = 1;
    try_to_add(m, add(0, living), "a state and a pid", "0");
    all.push_back(m.done());
}

template <class Change>
void try_params(making& m, const char* note, const char* want, Change change) {
    uapi::params p = params_of({});
    change(p);
    m.call(set_params(0, p), note).want(want);
    m.call(get_params(0)).want("0");
}

inline void add_basic_params(scripts& all) {
    making m{"set_params_basic"};
    m.call(add(0, info_of({}))).want("0");
    m.call(get_params(0), "none set").want("0");
    const auto basic = [&m](const char* note, const char* want, auto change) {
        try_params(m, note, want, [&](uapi::params& p) { change(p.basic); });
    };
    basic("good", "0", [](auto&) {});
    basic("logical 8", "EINVAL", [](auto& b) { b.logical_bs_shift = 8; });
    basic("logical 12", "0", [](auto& b) { b.logical_bs_shift = 12; });
    basic("logical 13", "EINVAL", [](auto& b) { b.logical_bs_shift = b.physical_bs_shift = 13; });
    basic("logical above physical", "EINVAL", [](auto& b) {
        b.logical_bs_shift = 12;
        b.physical_bs_shift = 9;
    });
    basic("one page less", "EINVAL", [](auto& b) { b.max_sectors = 7; });
    basic("one page", "0", [](auto& b) { b.max_sectors = 8; });
    basic("the buffer", "0", [](auto& b) { b.max_sectors = 128; });
    basic("more than the buffer", "EINVAL", [](auto& b) { b.max_sectors = 129; });
    basic("no sectors", "EINVAL", [](auto& b) { b.max_sectors = 0; });
    basic("all attributes", "0", [](auto& b) { b.attrs = 0xffffffff; });
    basic("no size", "0", [](auto& b) { b.dev_sectors = 0; });
    basic("chunks of 3", "0", [](auto& b) { b.chunk_sectors = 3; });
    basic("boundary", "0", [](auto& b) { b.virt_boundary_mask = 12345; });
    m.since(6, 8);
    all.push_back(m.done());

    making n{"set_params_shifts"};
    n.since(7, 3);
    n.call(add(0, info_of({}))).want("0");
    for (const int shift : {0, 9, 28, 29, 63, 255}) {
        const auto value = static_cast<std::uint8_t>(shift);
        const char* const want = shift <= 28 ? "0" : "EINVAL";
        try_params(n, "physical", shift < 9 ? "EINVAL" : want,
                   [&](uapi::params& p) { p.basic.physical_bs_shift = value; });
        try_params(n, "smallest", want, [&](uapi::params& p) { p.basic.io_min_shift = value; });
        try_params(n, "best", want, [&](uapi::params& p) { p.basic.io_opt_shift = value; });
    }
    all.push_back(n.done());
}

inline void add_more_params(scripts& all) {
    namespace type = uapi::param_type;
    making m{"set_params_sections"};
    m.call(add(0, info_of({}))).want("0");
    const auto with = [&m](const char* note, const char* want, auto change) {
        try_params(m, note, want, change);
    };
    with("no types", "EINVAL", [](auto& p) { p.types = 0; });
    with("no basic", "EINVAL", [](auto& p) { p.types = type::discard; });
    with("only unknown types", "EINVAL", [](auto& p) { p.types = 1u << 20; });
    with("unknown types too", "0", [](auto& p) { p.types |= 1u << 20; });
    with("numbers of nodes", "EINVAL", [](auto& p) { p.types |= type::devt; });
    with("discard", "0", [](auto& p) { p = params_of({.trims = true}); });
    with("no granularity", "EINVAL", [](auto& p) {
        p = params_of({.trims = true});
        p.discard.discard_granularity = 0;
    });
    with("two segments", "EINVAL", [](auto& p) {
        p = params_of({.trims = true});
        p.discard.max_discard_segments = 2;
    });
    with("no discard, no segments", "0", [](auto& p) {
        p = params_of({.trims = true});
        p.discard.max_discard_sectors = 0;
        p.discard.max_discard_segments = 0;
    });
    with("an odd alignment", "0", [](auto& p) {
        p = params_of({.trims = true});
        p.discard.discard_alignment = 77;
    });
    with("zones on a disk without", "EINVAL", [](auto& p) {
        p.types |= type::zoned;
        p.zoned.max_zone_append_sectors = 8;
    });
    all.push_back(m.done());
}

inline void add_new_params(scripts& all) {
    namespace type = uapi::param_type;
    making m{"set_params_of_7"};
    m.since(7, 3);
    m.call(add(0, info_of({}))).want("0");
    for (const std::uint32_t mask : {0u, 3u, 511u, 512u, 4095u, 4096u, 8191u, 0xffffffffu}) {
        const bool good = mask < 4096 && (mask & (mask + 1)) == 0;
        try_params(m, "alignment", good ? "0" : "EINVAL", [&](uapi::params& p) {
            p.types |= type::dma_align;
            p.dma.alignment = mask;
        });
    }
    const struct {
        std::uint64_t mask;
        std::uint32_t size;
        std::uint16_t count;
        const char* want;
    } segments[] = {{4095, 4096, 1, "0"},        {2047, 4096, 1, "EINVAL"},
                    {0xffff, 4095, 1, "EINVAL"}, {0xffff, 65536, 128, "0"},
                    {0, 4096, 1, "EINVAL"},      {5000, 4096, 1, "EINVAL"},
                    {4095, 4096, 0, "0"},        {~0ull, 4096, 1, "EINVAL"}};
    for (const auto& s : segments) {
        try_params(m, "segments", s.want, [&](uapi::params& p) {
            p.types |= type::segment;
            p.seg.seg_boundary_mask = s.mask;
            p.seg.max_segment_size = s.size;
            p.seg.max_segments = s.count;
        });
    }
    try_params(m, "integrity on a disk without", "EINVAL", [](uapi::params& p) {
        p.types |= type::integrity;
        p.integrity.metadata_size = 8;
        p.integrity.interval_exp = 9;
    });
    all.push_back(m.done());
}

inline void add_integrity_params(scripts& all) {
    namespace type = uapi::param_type;
    making m{"set_params_integrity"};
    m.since(7, 3);
    m.call(add(0, info_of({.flags = feature::integrity | feature::user_copy}))).want("0");
    const auto with = [&m](const char* note, const char* want, auto change) {
        try_params(m, note, want, [&](uapi::params& p) {
            p.types |= type::integrity;
            p.integrity.metadata_size = 8;
            p.integrity.interval_exp = 9;
            p.integrity.csum = uapi::csum_type::ip;
            change(p.integrity);
        });
    };
    with("good", "0", [](auto&) {});
    with("unknown flag", "EINVAL", [](auto& i) { i.flags = 4; });
    with("tags of sectors", "0", [](auto& i) { i.flags = 3; });
    with("no checksum", "0", [](auto& i) { i.csum = uapi::csum_type::none; });
    with("tags without checksum", "EINVAL", [](auto& i) {
        i.csum = uapi::csum_type::none;
        i.flags = 2;
    });
    with("unknown checksum", "EINVAL", [](auto& i) { i.csum = static_cast<uapi::csum_type>(3); });
    with("checksum of 16 bytes in 8", "EINVAL",
         [](auto& i) { i.csum = uapi::csum_type::crc64_nvme; });
    with("no metadata", "EINVAL", [](auto& i) { i.metadata_size = 0; });
    with("too far behind", "EINVAL", [](auto& i) { i.pi_offset = 1; });
    with("small interval", "EINVAL", [](auto& i) { i.interval_exp = 8; });
    with("large interval", "EINVAL", [](auto& i) { i.interval_exp = 10; });
    all.push_back(m.done());
}

inline void add_zoned_params(scripts& all) {
    namespace type = uapi::param_type;
    making m{"set_params_zoned"};
    m.call(add(0, info_of({.flags = feature::zoned | feature::user_copy}))).want("0");
    const auto with = [&m](const char* note, const char* want, auto change) {
        try_params(m, note, want, [&](uapi::params& p) {
            p.types |= type::zoned;
            p.basic.chunk_sectors = 256;
            p.zoned.max_open_zones = 8;
            p.zoned.max_active_zones = 8;
            p.zoned.max_zone_append_sectors = 8;
            change(p);
        });
    };
    with("good", "0", [](auto&) {});
    with("without zones", "EINVAL", [](auto& p) { p.types = type::basic; });
    with("odd zones", "EINVAL", [](auto& p) { p.basic.chunk_sectors = 300; });
    with("empty zones", "EINVAL", [](auto& p) { p.basic.chunk_sectors = 0; });
    with("no append", "EINVAL", [](auto& p) { p.zoned.max_zone_append_sectors = 0; });
    with("too many open", "EINVAL", [](auto& p) { p.zoned.max_open_zones = 9; });
    with("too many active", "EINVAL", [](auto& p) { p.zoned.max_active_zones = 9; });
    all.push_back(m.done());
}

inline void add_lengths_of_params(scripts& all) {
    making m{"params_lengths"};
    m.created({.trims = true});
    for (const std::uint16_t len : lengths{0, 7, 8, 9, 40, 60, 152, 160}) {
        for (const std::uint32_t inner : {0u, 4u, 8u, 9u, 40u, 60u, 76u, 152u, 153u, 4096u}) {
            const bool good = len > 8 && inner != 0 && inner <= len;
            m.call(get_params(0, inner, len),
                   "len " + std::to_string(len) + ", inside " + std::to_string(inner))
                .want(good ? "0" : "EINVAL");
        }
    }
    for (const std::uint16_t len : lengths{0, 8, 9, 39, 40, 60, 152, 160}) {
        for (const std::uint32_t inner : {0u, 8u, 9u, 40u, 60u, 152u, 160u}) {
            uapi::params p = params_of({});
            p.len = inner;
            p.basic.dev_sectors = 4096 + inner;
            command c = set_params(0, p);
            c.payload.resize(160);
            c.len = len;
            m.call(c, "len " + std::to_string(len) + ", inside " + std::to_string(inner));
            m.call(get_params(0)).want("0");
        }
    }
    all.push_back(m.done());
}

inline void add_infos(scripts& all) {
    making m{"infos"};
    m.created({.queues = 2, .depth = 8});
    for (const std::uint16_t len : lengths{0, 1, 63, 64, 65, 1000}) {
        m.call(get_info(0, len), "len " + std::to_string(len)).want(len < 64 ? "EINVAL" : "0");
    }
    command by_path = get_info(0);
    by_path.op = ctrl::get_dev_info2;
    m.call(by_path, "no path").want("EINVAL");
    by_path.path = path_kind::own;
    m.call(by_path, "its path").want("0");
    by_path.len = 63;
    m.call(by_path, "too short").want("EINVAL");
    by_path.len = 64;
    by_path.path_len = 0;
    m.call(by_path, "length 0").want("EINVAL");
    by_path.path_len = 5000;
    m.call(by_path, "length 5000").want("EINVAL");
    by_path.path_len = 1000;
    m.call(by_path, "longer than the whole").want("EINVAL");
    by_path.path_len.reset();
    by_path.path = path_kind::literal;
    const std::pair<const char*, const char*> paths[] = {
        {"/dev/null", "EPERM"},         {"/dev", "EPERM"},
        {"/no/such/file", "ENOENT"},    {"", "EPERM"},
        {"/dev/ublk-control", "EPERM"}, {"/dev/null/x", "ENOTDIR"}};
    for (const auto& [path, want] : paths) {
        by_path.literal = path;
        m.call(by_path, std::string{"path "} + path).want(want);
    }
    by_path = get_info(0);
    by_path.path = path_kind::own;
    m.call(by_path, "a path that is not wanted");
    all.push_back(m.done());
}

inline void add_affinities(scripts& all) {
    making m{"affinities"};
    m.created({.queues = 2});
    const struct {
        std::uint16_t len;
        std::uint64_t queue;
        const char* want;
    } cases[] = {{8, 0, "0"},         {8, 1, "0"},
                 {8, 2, "EINVAL"},    {16, 0, "0"},
                 {1024, 1, "0"},      {0, 0, "EINVAL"},
                 {4, 0, "EINVAL"},    {12, 0, "EINVAL"},
                 {8, 4000, "EINVAL"}, {8, 1ull << 32, "EINVAL"},
                 {8, ~0ull, "EINVAL"}};
    for (const auto& c : cases) {
        command requested = ask(ctrl::get_queue_affinity, 0, c.queue);
        requested.len = c.len;
        requested.payload.assign(c.len, std::byte{0xa5});
        m.call(requested, "len " + std::to_string(c.len)).want(c.want);
    }
    all.push_back(m.done());
}

// ---------------------------------------------------------------- devices without a server

inline void add_dead_devices(scripts& all) {
    making m{"commands_on_a_dead_device"};
    m.call(add(0, info_of({}))).want("0");
    m.call(for_process(ctrl::start_dev, 0), "no parameters").want("EINVAL");
    m.call(set_params(0, params_of({}))).want("0");
    m.call(ask(ctrl::start_dev, 0, 0), "pid 0").want("EINVAL");
    m.call(ask(ctrl::start_dev, 0, ~0ull), "pid -1").want("EINVAL");
    m.call(ask(ctrl::start_dev, 0, 1ull << 32), "pid 0 in 32 bits").want("EINVAL");
    m.call(for_process(ctrl::start_dev, 0), "nobody fetches", a_while)
        .want("pending, cancelled EINTR");
    m.call(for_process(ctrl::start_dev, 0, process::another), "nobody fetches", a_while)
        .want("pending, cancelled EINTR");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.call(for_process(ctrl::start_dev, 0), "after a stop without server", a_while)
        .want("pending, cancelled EINTR");
    m.call(ask(ctrl::start_user_recovery, 0)).want("EINVAL");
    m.call(get_info(0)).want("0");
    m.call(ask(ctrl::del_dev, 0)).want("0");
    m.call(ask(ctrl::del_dev, 0)).want("ENODEV");
    m.call(ask(ctrl::stop_dev, 0)).want("ENODEV");
    m.call(get_info(0)).want("ENODEV");
    all.push_back(m.done());

    making n{"new_commands_on_a_dead_device"};
    n.since(7, 3);
    n.created({.flags = feature::user_recovery | feature::quiesce});
    n.created({}, 1);
    n.call(ask(ctrl::update_size, 0, 100)).want("ENODEV");
    n.call(ask(ctrl::try_stop_dev, 0)).want("ENODEV");
    n.call(ask(ctrl::quiesce_dev, 0, 100)).want("ENODEV");
    n.call(ask(ctrl::quiesce_dev, 1, 100)).want("EOPNOTSUPP");
    n.call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
    n.call(ask(ctrl::start_user_recovery, 1)).want("EINVAL");
    n.call(for_process(ctrl::end_user_recovery, 0), "nobody fetches", a_while)
        .want("pending, cancelled EINTR");
    n.call(for_process(ctrl::end_user_recovery, 1), "nobody fetches", a_while)
        .want("pending, cancelled EINTR");
    n.open(0).want("0");
    n.call(ask(ctrl::start_user_recovery, 0)).want("EBUSY");
    n.call(ask(ctrl::unreg_buf, 0)).want("EOPNOTSUPP");
    n.call(ask(ctrl::reg_buf, 0)).want("EOPNOTSUPP");
    all.push_back(n.done());
}

inline void add_deletion(scripts& all) {
    making m{"deletion_waits_for_the_channel"};
    m.created({});
    m.open(0).want("0");
    m.begin(1, ask(ctrl::del_dev, 0)).finish(1, a_while).want("pending");
    m.begin(2, ask(ctrl::del_dev, 0)).finish(2, a_while).want("pending");
    m.call(get_info(0)).want("0");
    m.call(ask(ctrl::stop_dev, 0)).want("0");
    m.call(ask(ctrl::del_dev_async, 0)).want("0");
    m.call(set_params(0, params_of({}))).want("0");
    m.close(0);
    m.finish(1).want("0").finish(2).want("0");
    m.call(get_info(0)).want("ENODEV");
    all.push_back(m.done());

    making n{"deletion_that_does_not_wait"};
    n.created({});
    n.open(0).want("0");
    n.call(ask(ctrl::del_dev, 0), "given up", a_while).want("pending, cancelled EINTR");
    n.close(0).await_gone(0);
    n.created({});
    n.call(ask(ctrl::del_dev_async, 0)).want("0");
    n.await_gone(0);
    n.call(ask(ctrl::del_dev_async, 0)).want("ENODEV");
    all.push_back(n.done());
}

inline void add_channels(scripts& all) {
    making m{"channel"};
    m.open(0, a_while).want("ENOENT");
    m.created({.queues = 2, .depth = 300});
    m.created({}, 1);
    m.open(0).want("0");
    m.open(0, a_while).want("EBUSY");
    m.open(1).want("0");
    m.close(0).open(0).want("0");
    m.map(0, 0).want("0").map(0, 1).want("0").map(0, 2).want("EINVAL");
    m.map(0, 0, 4096).want("EINVAL").map(0, 0, 12288).want("EINVAL");
    m.map(0, 0, 8192).want("0").map(0, 0, 8192, 4096).want("0");
    m.map(0, 3000).want("EINVAL");
    m.close(0).close(1);
    all.push_back(m.done());
}

}  // namespace ublk_test::differential
