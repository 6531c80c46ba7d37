// SPDX-License-Identifier: MIT
#pragma once

// How scripts are written down.

#include "script.hpp"

#include <ublk/uapi.hpp>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test::differential {

namespace uapi = ublk::uapi;
namespace feature = ublk::uapi::feature;
namespace ctrl = ublk::uapi::ctrl;
using uapi::dev_state;
using scripts = std::vector<script>;
using lengths = std::initializer_list<std::uint16_t>;
using namespace std::chrono_literals;

/// Longer than anything takes that waits for nobody, and short enough to wait for in vain.
inline constexpr milliseconds a_while{300};

/// A device that takes little memory.
struct shape {
    std::uint16_t queues = 1;
    std::uint16_t depth = 2;
    std::uint64_t flags = 0;
    std::uint32_t buffer = 64u << 10;
    std::uint32_t attrs = 0;
    std::uint64_t sectors = 2048;
    bool trims = false;
    std::uint8_t block_shift = 9;
    std::uint32_t chunk = 0;       ///< sectors that no request leaves
    std::uint16_t descriptor = 0;  ///< bytes, since 7.3
    bool with_buffers = true;
};

/// Drivers before 7.0 do not know the flag, and ask for the partition table within START_DEV.
[[nodiscard]] inline uapi::dev_info info_of(const shape& s) {
    uapi::dev_info info;
    info.nr_hw_queues = s.queues;
    info.queue_depth = s.depth;
    info.max_io_buf_bytes = s.buffer;
    info.flags = s.flags | feature::no_auto_part_scan;
    info.io_desc_size = s.descriptor;
    return info;
}

[[nodiscard]] inline uapi::params params_of(const shape& s) {
    uapi::params p;
    p.len = sizeof p;
    p.types = uapi::param_type::basic;
    p.basic.attrs = s.attrs;
    p.basic.logical_bs_shift = s.block_shift;
    p.basic.physical_bs_shift = 12;
    p.basic.io_opt_shift = 12;
    p.basic.io_min_shift = 12;
    p.basic.max_sectors = s.buffer / 512;
    p.basic.dev_sectors = s.sectors;
    p.basic.chunk_sectors = s.chunk;
    if (s.trims) {
        p.types |= uapi::param_type::discard;
        p.discard.discard_granularity = 4096;
        p.discard.max_discard_sectors = 256;
        p.discard.max_write_zeroes_sectors = 256;
        p.discard.max_discard_segments = 1;
    }
    return p;
}

// ---------------------------------------------------------------- commands

[[nodiscard]] inline command ask(std::uint32_t op, int device, std::uint64_t data = 0) {
    command c;
    c.op = op;
    c.device = device;
    c.data = data;
    return c;
}

[[nodiscard]] inline command ask_by_id(std::uint32_t op, std::uint32_t id) {
    command c;
    c.op = op;
    c.id = id;
    return c;
}

[[nodiscard]] inline command add(int device, const uapi::dev_info& info,
                                 std::uint32_t id = uapi::any_dev_id) {
    command c = ask(uapi::ctrl::add_dev, device);
    c.id = id;
    c.queue_id = uapi::no_queue_id;
    c.payload = bytes_of(info);
    c.len = sizeof info;
    return c;
}

[[nodiscard]] inline command set_params(int device, const uapi::params& p) {
    command c = ask(uapi::ctrl::set_params, device);
    c.payload = bytes_of(p);
    c.len = sizeof p;
    return c;
}

/// With a mark behind what may be written.
[[nodiscard]] inline command get_params(int device, std::uint32_t inner = sizeof(uapi::params),
                                        std::uint16_t len = sizeof(uapi::params)) {
    command c = ask(uapi::ctrl::get_params, device);
    c.payload.assign(sizeof(uapi::params) + 32, std::byte{0xa5});
    std::memcpy(c.payload.data(), &inner, sizeof inner);
    c.len = len;
    return c;
}

[[nodiscard]] inline command get_info(int device, std::uint16_t len = sizeof(uapi::dev_info)) {
    command c = ask(uapi::ctrl::get_dev_info, device);
    c.len = len;
    return c;
}

[[nodiscard]] inline command for_process(std::uint32_t op, int device,
                                         process server = process::self) {
    command c = ask(op, device);
    c.pid = server;
    return c;
}

[[nodiscard]] inline command again(command c, int code) {
    c.again_while = code;
    return c;
}

// ---------------------------------------------------------------- deeds

[[nodiscard]] inline client_action io(deed kind, std::uint64_t sector, std::uint32_t sectors,
                                      std::uint8_t fill = 0, unsigned file = 1) {
    client_action a;
    a.kind = kind;
    a.file = file;
    a.sector = sector;
    a.sectors = sectors;
    a.fill = fill;
    return a;
}

[[nodiscard]] inline std::string deed_text(const client_action& a) {
    static constexpr const char* names[] = {"open",     "open cached", "close", "read",
                                            "write",    "write FUA",   "flush", "discard",
                                            "zero out", "punch hole"};
    std::string text = names[static_cast<int>(a.kind)];
    text += " file " + std::to_string(a.file);
    if (a.sectors != 0) {
        text += " " + std::to_string(a.sector) + "+" + std::to_string(a.sectors);
    }
    return text + (a.queue < 0 ? "" : " from q" + std::to_string(a.queue));
}

// ---------------------------------------------------------------- scripts

class making {
public:
    explicit making(std::string name) { made_.name = std::move(name); }

    making& since(unsigned major, unsigned minor) {
        made_.since = {major, minor};
        return *this;
    }
    making& until(unsigned major, unsigned minor) {
        made_.until = {major, minor};
        return *this;
    }

    /// How the outcome of the last step begins.
    making& want(std::string outcome) {
        made_.steps.back().must = std::move(outcome);
        return *this;
    }

    // Control commands.

    making& call(command c, const std::string& note = {}, milliseconds limit = patience) {
        step& s = put(verb::call, words(c, note));
        s.requested = std::move(c);
        s.limit = limit;
        return *this;
    }
    making& begin(unsigned number, command c, const std::string& note = {}) {
        step& s = put(verb::begin, "begin " + std::to_string(number) + " " + words(c, note));
        s.number = number;
        s.requested = std::move(c);
        return *this;
    }
    making& finish(unsigned number, milliseconds limit = patience) {
        step& s = put(verb::finish, "finish " + std::to_string(number));
        s.number = number;
        s.limit = limit;
        return *this;
    }
    making& cancel(unsigned number) {
        put(verb::cancel, "cancel " + std::to_string(number)).number = number;
        return *this;
    }
    making& await_state(int device, uapi::dev_state wanted) {
        step& s = on(verb::await_state, "state of", device);
        s.result = static_cast<int>(wanted);
        return want(std::to_string(s.result));
    }
    making& await_gone(int device) {
        on(verb::await_gone, "the end of", device);
        return want("ENODEV");
    }
    making& pause(milliseconds time = 150ms) {
        put(verb::pause, "pause").limit = time;
        return *this;
    }

    // The server.

    making& open(int device, milliseconds limit = patience) {
        on(verb::open, "open", device).limit = limit;
        return *this;
    }
    making& close(int device) {
        on(verb::close, "close", device);
        return *this;
    }
    making& shut(int device) {
        on(verb::shut, "close only the channel of", device);
        return *this;
    }
    making& unmap(int device, std::uint16_t queue) {
        on(verb::unmap, "unmap q" + std::to_string(queue) + " of", device).queue = queue;
        return *this;
    }
    making& die(int device) {
        on(verb::die, "the server dies:", device);
        return *this;
    }
    making& map(int device, std::uint16_t queue, std::size_t bytes = 0, std::uint64_t offset = 0) {
        step& s = on(verb::map, "map q" + std::to_string(queue) + " of", device);
        s.text += bytes != 0 || offset != 0
                      ? " bytes " + std::to_string(bytes) + " offset " + std::to_string(offset)
                      : "";
        s.queue = queue;
        s.bytes = bytes;
        s.offset = offset;
        return *this;
    }
    making& port(int device, unsigned thread, std::size_t tags) {
        step& s = on(verb::port, "port of thread " + std::to_string(thread) + " to", device);
        s.thread = thread;
        s.bytes = tags;
        return *this;
    }
    making& close_port(unsigned thread) {
        of(verb::close_port, thread, "close port");
        return *this;
    }
    making& fetch(unsigned thread, std::uint16_t queue, std::uint16_t tag, bool buffer = true) {
        step& s = of(verb::fetch, thread,
                     "fetch q" + std::to_string(queue) + " t" + std::to_string(tag) +
                         (buffer ? "" : " without buffer"));
        s.queue = queue;
        s.tag = tag;
        s.buffer = buffer;
        return *this;
    }
    making& commit(unsigned thread, unsigned request, int result, std::uint8_t fill = 0,
                   bool buffer = true) {
        step& s = of(verb::commit, thread,
                     "commit request " + std::to_string(request) + " " + name_of(result) +
                         (buffer ? "" : " without buffer"));
        s.number = request;
        s.result = result;
        s.fill = fill;
        s.buffer = buffer;
        return *this;
    }
    making& commit_tag(unsigned thread, std::uint16_t queue, std::uint16_t tag, int result) {
        step& s = of(verb::commit, thread,
                     "commit q" + std::to_string(queue) + " t" + std::to_string(tag) + " " +
                         name_of(result));
        s.queue = queue;
        s.tag = tag;
        s.result = result;
        return *this;
    }
    making& expect(unsigned thread, unsigned request, milliseconds limit = patience) {
        step& s = of(verb::expect, thread, "expect request " + std::to_string(request));
        s.number = request;
        s.limit = limit;
        return *this;
    }
    making& nothing(unsigned thread) {
        step& s = of(verb::expect, thread, "expect nothing");
        s.limit = a_while;
        return want("nothing");
    }
    making& drain(unsigned thread, std::size_t events) {
        step& s = of(verb::drain, thread, "drain " + std::to_string(events));
        s.bytes = events;
        return *this;
    }
    making& serve(unsigned thread) {
        of(verb::serve, thread, "serve");
        return *this;
    }
    making& hold(unsigned thread) {
        of(verb::hold, thread, "hold");
        return *this;
    }

    // Clients.

    making& client(unsigned number, client_action action, int device = 0) {
        step& s = on(verb::client,
                     "client " + std::to_string(number) + " " + deed_text(action) +
                         (opens(action.kind) ? " of" : ","),
                     device);
        s.number = number;
        s.action = action;
        return *this;
    }
    making& await(unsigned number, milliseconds limit = patience) {
        step& s = put(verb::await, "await client " + std::to_string(number));
        s.number = number;
        s.limit = limit;
        return *this;
    }

    // What most scripts begin with.

    making& fetch_all(unsigned thread, std::uint16_t queue, const shape& s) {
        for (std::uint16_t t = 0; t < s.depth; ++t) {
            fetch(thread, queue, t, s.with_buffers).want("0");
        }
        return *this;
    }

    making& created(const shape& s, int device = 0) {
        call(add(device, info_of(s))).want("0");
        call(set_params(device, params_of(s))).want("0");
        return *this;
    }

    /// The channel is open, everything mapped, all queues fetched by one thread.
    making& attached(const shape& s, int device = 0, unsigned thread = 0) {
        open(device).want("0");
        for (std::uint16_t q = 0; q < s.queues; ++q) {
            map(device, q).want("0");
        }
        port(device, thread, std::size_t{s.queues} * s.depth).want("0");
        for (std::uint16_t q = 0; q < s.queues; ++q) {
            fetch_all(thread, q, s);
        }
        return *this;
    }

    making& started(int device = 0, unsigned thread = 0) {
        begin(1000, again(for_process(uapi::ctrl::start_dev, device), EEXIST));
        serve(thread).finish(1000).want("0");
        return hold(thread);
    }

    making& live(const shape& s, int device = 0, unsigned thread = 0) {
        return created(s, device).attached(s, device, thread).started(device, thread);
    }

    making& opened(unsigned file = 1, int device = 0, deed given = deed::open) {
        client(1000 + file, io(given, 0, 0, 0, file), device);
        return await(1000 + file).want("0");
    }

    /// A client's deed from begin to end.
    making& passed(unsigned number, const client_action& a, int result, const std::string& outcome,
                   std::uint8_t fill = 0) {
        client(number, a);
        expect(0, number);
        commit(0, number, result, fill);
        return await(number).want(outcome);
    }

    [[nodiscard]] script done() const { return made_; }

private:
    step& put(verb kind, std::string text) {
        step& s = made_.steps.emplace_back();
        s.kind = kind;
        s.text = std::move(text);
        return s;
    }
    step& on(verb kind, const std::string& text, int device) {
        step& s = put(kind, text + " d" + std::to_string(device));
        s.device = device;
        return s;
    }
    step& of(verb kind, unsigned thread, const std::string& text) {
        step& s = put(kind, "thread " + std::to_string(thread) + " " + text);
        s.thread = thread;
        return s;
    }

    [[nodiscard]] static std::string words(const command& c, const std::string& note) {
        std::string text = command_text(c.op);
        text += c.device >= 0 ? " d" + std::to_string(c.device) : " id " + std::to_string(c.id);
        if (c.data != 0) {
            text += " data " + std::to_string(c.data);
        }
        if (c.pid != process::none) {
            text += c.pid == process::self ? " pid self" : " pid of another";
        }
        return note.empty() ? text : text + " (" + note + ")";
    }

    script made_;
};

}  // namespace ublk_test::differential
