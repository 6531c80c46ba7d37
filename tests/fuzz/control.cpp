// SPDX-License-Identifier: MIT
// The simulated driver under servers that obey no rule: any control command with any payload, in
// any order, any FETCH and COMMIT from any thread, processes that are killed, clients meanwhile.
// Nothing may crash or hang, answers must agree with each other, and in the end everything that is
// there can be removed.
#include "bytes.hpp"
#include "control_answers.hpp"
#include "control_worker.hpp"

#include <ublk/disk_attributes.hpp>
#include <ublk/error.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/world.hpp>
#include <ublk/uapi.hpp>

#include <array>
#include <chrono>
#include <cstring>
#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace sim = ublk::sim;
namespace uapi = ublk::uapi;
namespace ctrl = ublk::uapi::ctrl;
namespace feature = ublk::uapi::feature;
using namespace std::chrono_literals;
using ublk_fuzz::bytes;
using ublk_fuzz::expect;
using ublk_fuzz::port_box;
using ublk_fuzz::worker;
using ublk_fuzz::wrong;

constexpr std::uint32_t commands[] = {ctrl::get_queue_affinity,
                                      ctrl::get_dev_info,
                                      ctrl::add_dev,
                                      ctrl::del_dev,
                                      ctrl::start_dev,
                                      ctrl::stop_dev,
                                      ctrl::set_params,
                                      ctrl::get_params,
                                      ctrl::start_user_recovery,
                                      ctrl::end_user_recovery,
                                      ctrl::get_dev_info2,
                                      ctrl::get_features,
                                      ctrl::del_dev_async,
                                      ctrl::update_size,
                                      ctrl::quiesce_dev,
                                      ctrl::try_stop_dev,
                                      ctrl::reg_buf,
                                      ctrl::unreg_buf};

sim::conditions conditions_from(bytes& in) {
    constexpr ublk::kernel_version versions[] = {{7, 3},  {6, 8},  {6, 12}, {6, 13},
                                                 {6, 15}, {6, 16}, {6, 17}, {7, 0}};
    const auto machine = in.number();
    sim::conditions given;
    given.seed = in.number();
    given.version = versions[machine & 7];
    given.cpus = 1u + (machine >> 3 & 3);
    given.root = (machine & 0x20) == 0;
    given.zoned = (machine & 0x40) == 0;
    given.switches = (machine & 0x80) == 0 ? 4 : 1;
    given.unprivileged_max = 3;
    given.strict = false;
    return given;
}

/// A process, its threads, and what it has sent and opened.
struct server {
    server(sim::world& in, sim::kernel k)
        : as{k}, control{as.open_control()}, threads{{worker{in}, worker{in}}} {}

    struct pending {
        ublk::detail::control_ticket ticket;
        ublk::detail::control_command sent;
        bool alone;
    };

    sim::kernel as;
    sim::kernel::control control;
    std::vector<pending> calls;
    struct opened {
        std::uint32_t id;
        std::unique_ptr<sim::kernel::channel> channel;
    };
    std::vector<opened> channels;
    std::array<worker, 2> threads;
};

struct request {
    sim::bio requested;
    std::vector<std::byte> data;
};

class story {
public:
    explicit story(bytes& in) : given_{conditions_from(in)}, devices_{given_}, in_{given_} {
        for (unsigned i = 0; i < 2; ++i) {
            servers_.emplace_back(in_, in_.boot());
        }
    }

    void live(bytes& in) {
        for (unsigned actions = 0; !in.empty() && actions < 100; ++actions) {
            const auto bits = in.number();
            server& s = servers_[bits >> 5 & 1];
            worker& w = s.threads[bits >> 6 & 1];
            const unsigned what = bits & 31;
            (bits & 0x80) != 0 && what >= 24 ? act_on_data(what, s, w, in) : act(what, s, w, in);
        }
        end();
    }

private:
    void act(unsigned what, server& s, worker& w, bytes& in) {
        switch (what) {
        case 0:
            return send_raw(s, in);
        case 1:
            return add(s, in);
        case 2:
            return set_params(s, some_id(in), in);
        case 3:
        case 4:
            return send_simple(s, in);
        case 5:
            return finish_one(s, in);
        case 6:
            return cancel_one(s, in);
        case 7:
            return open(s, some_id(in));
        case 8:
            return close(s, in);
        case 9:
            return open_port(s, w, in);
        case 10:
            return close_port(w, in);
        case 11:
            return fetch(w, in);
        case 12:
            return commit(w, in);
        case 13:
            return serve(w, in, false);
        case 14:
            return serve(w, in, true);
        case 15:
            return with_port(w, in, [](port_box& p) { p.wait(); });
        case 16:
            return with_port(w, in, [](port_box& p) { p.wake(); });
        case 17:
            return kill(s, in);
        case 18:
            return in_.on().tasks.sleep(std::chrono::microseconds{1} * in.number() * 16);
        case 19:
            return open_disk(some_id(in));
        case 20:
            return close_disk(in);
        case 21:
        case 22:
            return ask_disk(in);
        case 23:
            return dirty_disk(in);
        default:
            return bring_up(s, w, in, 0);
        }
    }

    /// What came with the other ways of the bytes, and with batches.
    void act_on_data(unsigned what, server& s, worker& w, bytes& in) {
        switch (what) {
        case 24:
            return batch(w, in, true);
        case 25:
            return batch(w, in, false);
        case 26:
            return fetch_tags(w, in);
        case 27:
            return table_command(w, in);
        case 28:
            return get_data(w, in);
        case 29:
            return bring_up(s, w, in, way_from(in));
        default:
            return bring_up(s, w, in, 0);
        }
    }

    // ------------------------------------------------------------ control commands

    /// One that was granted, or any.
    std::uint32_t some_id(bytes& in) {
        const auto choice = in.number();
        if (choice == 0xff || devices_.all().empty()) {
            return in.number<std::uint32_t>();
        }
        auto each = devices_.all().begin();
        std::advance(each, choice % devices_.all().size());
        return each->first;
    }

    /// With the path where one is needed. Returns the bytes it takes.
    std::size_t address(ublk::detail::control_command& c, std::uint32_t id, bool with_path) const {
        c.header.dev_id = id;
        if (!with_path) {
            return 0;
        }
        const std::string path = "/dev/ublkc" + std::to_string(id);
        const std::size_t prefix = (path.size() + 8) / 8 * 8;
        std::memcpy(c.payload, path.data(), path.size());
        c.header.dev_path_len = static_cast<std::uint16_t>(prefix);
        return prefix;
    }

    [[nodiscard]] bool path_is_needed(std::uint32_t op) const {
        return op == ctrl::get_dev_info2 || !given_.root;
    }

    /// KNOWN: before 7.0 START_DEV looks for partitions with the device's lock held. With
    /// USER_RECOVERY the requests of a server that dies then wait for a next one, which can't come.
    [[nodiscard]] bool start_may_hang(std::uint32_t id) const {
        const auto* const device = devices_.find(id);
        return given_.version < ublk::kernel_version{7, 0} && device != nullptr &&
               (device->info.flags & feature::user_recovery) != 0;
    }

    void send(server& s, const ublk::detail::control_command& what,
              std::chrono::milliseconds limit) {
        if (s.calls.size() >= 12 || (uapi::legacy(what.op) == uapi::legacy(ctrl::start_dev) &&
                                     !right_mind_ && start_may_hang(what.header.dev_id))) {
            return;
        }
        const bool alone = servers_[0].calls.empty() && servers_[1].calls.empty();
        devices_.sent(what);
        s.calls.push_back({s.control.begin(what), what, alone});
        (void)finish(s, s.calls.size() - 1, limit);
    }

    bool finish(server& s, std::size_t index, std::chrono::milliseconds limit) {
        const server::pending p = s.calls[index];
        ublk::detail::control_command got;
        const int code = s.control.finish(p.ticket, got, s.as.now() + limit);
        if (code == ublk::detail::control_pending) {
            return false;
        }
        s.calls.erase(s.calls.begin() + static_cast<std::ptrdiff_t>(index));
        devices_.answered(p.sent, got, code, s.as.dead(), p.alone);
        return true;
    }

    static std::chrono::milliseconds some_limit(bytes& in) {
        constexpr std::chrono::milliseconds limits[] = {0ms, 1ms, 50ms, 2000ms};
        return limits[in.number() & 3];
    }

    void send_raw(server& s, bytes& in) {
        const auto choice = in.number();
        ublk::detail::control_command c;
        c.op = choice < std::size(commands)         ? commands[choice]
               : choice - 32u < std::size(commands) ? uapi::legacy(commands[choice - 32u])
               : choice >= 0x80                     ? std::uint32_t{choice} & 0x3f
                                                    : in.number<std::uint32_t>();
        c.header.dev_id = some_id(in);
        c.header.queue_id = in.flag() ? uapi::no_queue_id : in.number<std::uint16_t>();
        c.header.len = in.number<std::uint16_t>();
        c.header.data = in.number<std::uint64_t>();
        c.header.dev_path_len = in.flag() ? in.number<std::uint16_t>() : std::uint16_t{0};
        const auto limit = some_limit(in);
        in.copy_to(std::span{c.payload}.first(in.number() % 160u));
        if (uapi::legacy(c.op) == uapi::legacy(ctrl::add_dev)) {
            sober(c);
        }
        send(s, c, limit);
    }

    /// Thousands of tags and gigabytes of buffer only take time here.
    void sober(ublk::detail::control_command& add) const {
        uapi::dev_info info;
        std::memcpy(static_cast<void*>(&info), add.payload, sizeof info);
        if (info.queue_depth <= uapi::max_queue_depth) {
            info.queue_depth = static_cast<std::uint16_t>(info.queue_depth % 65);
        }
        std::memcpy(add.payload, &info, sizeof info);
    }

    void add(server& s, bytes& in) {
        ublk::detail::control_command c;
        c.op = ctrl::add_dev;
        uapi::dev_info info;
        const auto bits = in.number();
        info.dev_id = (bits & 1) != 0 ? in.number() : uapi::any_dev_id;
        info.nr_hw_queues = (bits & 2) != 0 ? in.number<std::uint16_t>() : std::uint16_t{2};
        info.queue_depth = static_cast<std::uint16_t>((bits & 4) != 0 ? in.number() : 2);
        info.max_io_buf_bytes = (bits & 8) != 0 ? in.number<std::uint32_t>() : 8192;
        info.flags = (bits & 16) != 0 ? in.number<std::uint64_t>() : in.number<std::uint16_t>();
        info.flags |= given_.root ? 0 : feature::unprivileged_dev;
        info.io_desc_size = (bits & 32) != 0 ? in.number() : std::uint8_t{32};
        info.server_flags = (bits & 64) != 0 ? in.number<std::uint64_t>() : 7;
        send_add(s, info, 50ms);
    }

    void send_add(server& s, uapi::dev_info info, std::chrono::milliseconds limit) {
        ublk::detail::control_command c;
        c.op = ctrl::add_dev;
        c.header.dev_id = info.dev_id;
        c.header.queue_id = uapi::no_queue_id;
        c.header.len = sizeof info;
        std::memcpy(c.payload, &info, sizeof info);
        send(s, c, limit);
    }

    [[nodiscard]] static uapi::params plain_params(std::uint8_t bits) {
        ublk::disk_attributes disk;
        disk.size = 64u << 10;
        disk.logical_block_size = (bits & 1) != 0 ? 4096 : ublk::sector_size;
        disk.physical_block_size = disk.minimum_io_size = disk.optimal_io_size = 4096;
        disk.discard_granularity = 4096;
        disk.read_only = (bits & 2) != 0;
        disk.volatile_cache = (bits & 4) != 0;
        disk.fua = (bits & 8) != 0 && disk.volatile_cache;
        disk.discards = (bits & 16) != 0;
        disk.max_discard_size = 16384;
        disk.max_write_zeroes_size = (bits & 32) != 0 ? 8192 : 0;
        return ublk::to_params(disk, 8192);
    }

    /// Good ones, of which some bytes may be changed.
    void set_params(server& s, std::uint32_t id, bytes& in) {
        const auto bits = in.number();
        uapi::params params = plain_params(bits);
        auto* const raw = reinterpret_cast<unsigned char*>(&params);
        for (unsigned changes = bits >> 6; changes != 0; --changes) {
            const auto place = in.number() % sizeof params;
            raw[place] = in.number();
        }
        ublk::detail::control_command c;
        c.op = ctrl::set_params;
        const std::size_t prefix = address(c, id, path_is_needed(c.op));
        c.header.len = static_cast<std::uint16_t>(prefix + sizeof params);
        std::memcpy(c.payload + prefix, &params, sizeof params);
        send(s, c, 50ms);
    }

    void send_simple(server& s, bytes& in) {
        const auto choice = in.number();
        ublk::detail::control_command c;
        c.op = commands[choice % std::size(commands)];
        const std::uint32_t id = some_id(in);
        const std::size_t prefix = address(c, id, path_is_needed(c.op));
        c.header.len = static_cast<std::uint16_t>(
            prefix + (c.op == ctrl::get_features ? sizeof(std::uint64_t) : sizeof(uapi::params)));
        const auto datum = in.number();
        c.header.data = datum == 0xff ? static_cast<std::uint64_t>(s.as.process_id()) : datum;
        if (c.op == ctrl::start_dev || c.op == ctrl::end_user_recovery) {
            const server& by = servers_[datum & 1];
            c.header.data = static_cast<std::uint64_t>(datum < 0xfe ? by.as.process_id() : datum);
        } else if (c.op == ctrl::get_params) {
            const std::uint32_t len = sizeof(uapi::params);
            std::memcpy(c.payload + prefix, &len, sizeof len);
        } else if (c.op == ctrl::add_dev || c.op == ctrl::set_params) {
            c.op = ctrl::get_dev_info;  // there are others for these
        }
        send(s, c, some_limit(in));
    }

    void finish_one(server& s, bytes& in) {
        const auto choice = in.number();
        const auto limit = some_limit(in);
        if (!s.calls.empty()) {
            (void)finish(s, choice % s.calls.size(), limit);
        }
    }

    void cancel_one(server& s, bytes& in) {
        const auto choice = in.number();
        if (!s.calls.empty()) {
            s.control.cancel(s.calls[choice % s.calls.size()].ticket);
        }
    }

    // ------------------------------------------------------------ channels and ports

    void open(server& s, std::uint32_t id) {
        if (s.channels.size() >= 4) {
            return;
        }
        try {
            auto opened = std::make_unique<sim::kernel::channel>(
                s.as.open_channel(id, ublk::detail::deadline{}));
            s.channels.push_back({id, std::move(opened)});
        } catch (const ublk::error& why) {
            expect(!why.command().empty(), "an error without a command");
        }
    }

    void close(server& s, bytes& in) {
        const auto choice = in.number();
        if (!s.channels.empty()) {
            s.channels.erase(s.channels.begin() +
                             static_cast<std::ptrdiff_t>(choice % s.channels.size()));
        }
    }

    void open_port(server& s, worker& w, bytes& in) {
        const auto choice = in.number();
        if (s.channels.empty() || w.ports.size() >= 3) {
            return;
        }
        const server::opened& at = s.channels[choice % s.channels.size()];
        const auto* const entry = devices_.find(at.id);
        if (entry == nullptr || entry->deleting) {
            return;
        }
        const bool spaced = !(given_.version < ublk::kernel_version{7, 3});
        (void)w.order([this, spaced, info = entry->info, channel = at.channel.get()](worker& me) {
            me.ports.push_back(std::make_unique<port_box>(*channel, info, spaced, memory_));
        });
    }

    void close_port(worker& w, bytes& in) {
        const auto choice = in.number();
        (void)w.order([choice](worker& me) {
            if (!me.ports.empty()) {
                me.ports.erase(me.ports.begin() +
                               static_cast<std::ptrdiff_t>(choice % me.ports.size()));
            }
        });
    }

    template <class Do>
    void with_port(worker& w, bytes& in, Do what) {
        const auto choice = in.number();
        (void)w.order([choice, what](worker& me) {
            if (!me.ports.empty()) {
                what(*me.ports[choice % me.ports.size()]);
            }
        });
    }

    void fetch(worker& w, bytes& in) {
        const auto where = in.number();
        const bool all = (where & 0x80) != 0;
        const unsigned queue = where & 7;
        const unsigned tag = where >> 3 & 7;
        const bool buffer = (where & 0x40) == 0;
        with_port(w, in, [=](port_box& p) {
            all ? p.fetch_all() : p.fetch(queue, tag, buffer);
            p.flush();
        });
    }

    void commit(worker& w, bytes& in) {
        const auto where = in.number();
        const int result = in.flag() ? in.number<std::int32_t>() : -int{in.number()};
        with_port(w, in, [=](port_box& p) {
            p.commit(where & 7, where >> 3 & 7, result, (where & 0x40) == 0);
            p.flush();
        });
    }

    void get_data(worker& w, bytes& in) {
        const auto where = in.number();
        with_port(w, in, [=](port_box& p) {
            p.get_data(where & 7, where >> 3 & 7, (where & 0x40) == 0);
            p.flush();
        });
    }

    void table_command(worker& w, bytes& in) {
        const auto where = in.number();
        const auto place = in.number();
        with_port(w, in, [=](port_box& p) {
            (where & 0x40) == 0 ? p.register_buffer(where & 7, where >> 3 & 7, place)
                                : p.unregister_buffer(where & 7, where >> 3 & 7, place);
            p.flush();
        });
    }

    void fetch_tags(worker& w, bytes& in) {
        const auto queue = in.number();
        with_port(w, in, [=](port_box& p) {
            p.fetch_tags(queue & 7);
            p.flush();
        });
    }

    void batch(worker& w, bytes& in, bool prepares) {
        const auto bits = in.number();
        ublk_fuzz::batch_shape given;
        given.queue = bits & 3;
        given.fault = bits >> 2 & 7;
        given.tags.resize(bits >> 5);
        for (std::uint8_t& tag : given.tags) {
            tag = in.number() & 0x87;
        }
        given.result = prepares ? 0 : -int{in.number()};
        with_port(w, in, [=](port_box& p) {
            prepares ? p.prepare(given) : p.commit(given);
            p.flush();
        });
    }

    /// How the bytes of requests get to a server, beside copies.
    static std::uint64_t way_from(bytes& in) {
        constexpr std::uint64_t ways[] = {feature::batch_io, feature::support_zero_copy,
                                          feature::auto_buf_reg, feature::user_copy,
                                          feature::io_desc_size};
        const auto bits = in.number();
        std::uint64_t flags = 0;
        for (unsigned i = 0; i < std::size(ways); ++i) {
            flags |= (bits >> i & 1) != 0 ? ways[i] : 0;
        }
        return flags;
    }

    void serve(worker& w, bytes& in, bool answer) {
        const int result = answer && in.flag() ? -int{in.number()} : 0;
        with_port(w, in, [=](port_box& p) { p.serve(answer, result); });
    }

    /// What a server in its right mind does, so that there is something to spoil.
    void bring_up(server& s, worker& w, bytes& in, std::uint64_t way) {
        constexpr std::uint64_t flags[] = {0,
                                           feature::user_recovery,
                                           feature::user_recovery | feature::user_recovery_reissue,
                                           feature::user_recovery | feature::user_recovery_fail_io,
                                           feature::need_get_data,
                                           feature::user_copy,
                                           feature::no_auto_part_scan,
                                           feature::quiesce | feature::user_recovery};
        const auto bits = in.number();
        const auto params = in.number();
        const std::size_t before = devices_.all().size();
        uapi::dev_info info;
        info.dev_id = static_cast<std::uint32_t>(before);
        info.nr_hw_queues = 1u + (bits & 1);
        info.queue_depth = static_cast<std::uint16_t>(1u + (bits >> 1 & 3));
        info.max_io_buf_bytes = 8192;
        info.flags = flags[bits >> 3 & 7] | way | (given_.root ? 0 : feature::unprivileged_dev);
        info.io_desc_size = 64;
        send_add(s, info, 50ms);
        if (devices_.find(info.dev_id) == nullptr) {
            return;
        }
        const std::uint8_t no_bytes = params & 0x3f;
        bytes plain{&no_bytes, 1};
        set_params(s, info.dev_id, plain);
        open(s, info.dev_id);
        const auto last = static_cast<std::uint8_t>(s.channels.size() - 1);
        bytes newest{&last, 1};
        open_port(s, w, newest);
        (void)w.order([](worker& me) {
            if (!me.ports.empty()) {
                me.ports.back()->fetch_all();
                me.ports.back()->flush();
            }
        });
        ublk::detail::control_command c;
        c.op = ctrl::start_dev;
        const std::size_t prefix = address(c, info.dev_id, path_is_needed(c.op));
        c.header.len = static_cast<std::uint16_t>(prefix);
        c.header.data = static_cast<std::uint64_t>(s.as.process_id());
        right_mind_ = true;
        send(s, c, 5ms);
        right_mind_ = false;
        const bool must = start_may_hang(info.dev_id);
        if ((bits & 0x40) != 0 || must) {  // answers the search for partitions
            (void)w.order([](worker& me) {
                if (!me.ports.empty()) {
                    me.ports.back()->serve(true, 0);
                }
            });
        }
        if (must && !s.calls.empty() && !finish(s, s.calls.size() - 1, 5ms)) {
            s.control.cancel(s.calls.back().ticket);
        }
        if ((bits & 0x80) != 0) {
            open_disk(info.dev_id);
        }
    }

    void kill(server& s, bytes& in) {
        // Rarely, since little happens afterwards.
        if (in.number() > 0xc0) {
            s.as.kill();
        }
    }

    // ------------------------------------------------------------ clients

    void open_disk(std::uint32_t id) {
        if (disks_.size() >= 3) {
            return;
        }
        try {
            disks_.push_back(std::make_unique<sim::client>(in_, id));
        } catch (const ublk::error& why) {
            expect(why.errno_value() == ENXIO, "opening a disk fails for another reason");
        }
    }

    void close_disk(bytes& in) {
        const auto choice = in.number();
        if (!disks_.empty()) {
            disks_.erase(disks_.begin() + static_cast<std::ptrdiff_t>(choice % disks_.size()));
        }
    }

    void ask_disk(bytes& in) {
        constexpr uapi::op ops[] = {uapi::op::read, uapi::op::write, uapi::op::flush,
                                    uapi::op::discard, uapi::op::write_zeroes};
        const auto bits = in.number();
        const std::uint64_t sector = in.number();
        const std::uint64_t sectors = 1u + in.number() % 64u;
        if (disks_.empty() || requests_.size() >= 64) {
            return;
        }
        request& r = requests_.emplace_back();
        r.requested.op = ops[(bits & 7) % std::size(ops)];
        const bool data = r.requested.op == uapi::op::read || r.requested.op == uapi::op::write;
        r.data.resize(data ? ublk::sectors_to_bytes(sectors) : 0);
        r.requested.sector = r.requested.op == uapi::op::flush ? 0 : sector;
        r.requested.sectors = r.requested.op == uapi::op::flush ? 0 : sectors;
        r.requested.flags = (bits & 8) != 0 ? uapi::io_flag::fua : 0;
        r.requested.data = r.data.data();
        r.requested.cpu = bits >> 4 & 3;
        disks_[(bits >> 6) % disks_.size()]->submit(r.requested);
        in_.on().tasks.sleep(10us);
    }

    void dirty_disk(bytes& in) {
        const std::vector<std::byte> page(ublk::sectors_to_bytes(1 + in.number() % 16u));
        const std::uint64_t sector = in.number();
        if (!disks_.empty()) {
            disks_.back()->write_dirty(ublk::sectors_to_bytes(sector), page);
        }
    }

    // ------------------------------------------------------------ the end

    void end() {
        for (server& s : servers_) {
            if (!s.as.dead()) {
                s.as.kill();
            }
        }
        in_.settle();
        for (server& s : servers_) {
            for (worker& each : s.threads) {
                each.leave();
            }
            s.channels.clear();
            while (!s.calls.empty()) {
                expect(finish(s, 0, 0ms), "a command of a dead process has no answer");
            }
        }
        in_.settle();
        server janitor{in_, in_.boot()};
        remove(janitor, ctrl::stop_dev);
        in_.settle();
        for (const request& each : requests_) {
            expect(each.requested.done, "a request is not answered though its disk is gone");
        }
        disks_.clear();
        remove(janitor, ctrl::del_dev);
        in_.settle();
        expect(in_.devices() == 0, "a device is left in the end");
        if (in_.on().tasks.tasks() != 0) {
            wrong("threads are left in the end:\n" + in_.on().tasks.describe_waits());
        }
    }

    /// STOP_DEV or DEL_DEV of whatever is there.
    void remove(server& janitor, std::uint32_t op) {
        std::set<std::uint32_t> ids = devices_.ids_asked();  // some were never answered
        for (std::uint32_t id = 0; id < 64; ++id) {
            ids.insert(id);
        }
        for (const std::uint32_t id : ids) {
            if (in_.ublk_drv().life.find(id) == nullptr) {
                continue;
            }
            ublk::detail::control_command c;
            c.op = op;
            const std::size_t prefix = address(c, id, path_is_needed(op));
            c.header.len = static_cast<std::uint16_t>(prefix);
            const ublk::detail::control_ticket ticket = janitor.control.begin(c);
            const int code = janitor.control.finish(ticket, c, janitor.as.now() + 60s);
            if (code != 0) {
                wrong("in the end " + std::string{ublk::detail::command_name(op)} + " answers " +
                      std::to_string(code) + "\n" + in_.on().tasks.describe_waits());
            }
        }
    }

    sim::conditions given_;
    ublk_fuzz::register_of_devices devices_;
    ublk_fuzz::arena memory_;
    std::deque<request> requests_;
    sim::world in_;
    std::deque<server> servers_;
    std::vector<std::unique_ptr<sim::client>> disks_;
    bool right_mind_ = false;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes in{data, size};
    story one{in};
    one.live(in);
    return 0;
}
