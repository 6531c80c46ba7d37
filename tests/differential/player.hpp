// SPDX-License-Identifier: MIT
#pragma once

// Plays a script on a kernel and writes down what comes of it, leaving out what may differ from one
// run to the next: ids, pids, times, which tag the block layer picked. Nothing waits without limit,
// and whatever the script left is cleaned up; what could not be is in the transcript.

#include "script.hpp"

#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/uapi.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test::differential {

using namespace std::chrono_literals;

/// What came of a client's deed.
struct client_outcome {
    int code = 0;                 ///< 0 or an errno
    std::vector<std::byte> data;  ///< what was read
};

/// Clients of a disk: `begin` waits no longer than until the kernel has that deed, and `poll` says
/// what came of it once it has ended, else nothing.
template <class C>
concept clients = std::movable<C> &&
    requires(C& c, unsigned number, const client_action& action, std::uint32_t device) {
    c.begin(number, action, device);
    { c.poll(number) } -> std::same_as<std::optional<client_outcome>>;
};

// ---------------------------------------------------------------- words

/// Bytes as runs of equal ones, or as a checksum where there are many runs.
[[nodiscard]] inline std::string summary(std::span<const std::byte> data) {
    std::string text;
    unsigned runs = 0;
    std::uint64_t sum = 0xcbf29ce484222325ull;
    for (std::size_t i = 0; i < data.size();) {
        std::size_t end = i;
        while (end < data.size() && data[end] == data[i]) {
            sum = (sum ^ static_cast<std::uint8_t>(data[end])) * 0x100000001b3ull;
            ++end;
        }
        if (++runs <= 4) {
            char run[32];
            (void)std::snprintf(run, sizeof run, " %02x*%zu", static_cast<unsigned>(data[i]),
                                end - i);
            text += run;
        }
        i = end;
    }
    return runs <= 4 ? text : " " + std::to_string(data.size()) + " bytes, " + std::to_string(sum);
}

[[nodiscard]] inline std::string hex(std::uint64_t value) {
    char text[24];
    (void)std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

[[nodiscard]] inline std::string op_text(std::uint32_t op_flags) {
    namespace flag = ublk::uapi::io_flag;
    static constexpr std::pair<std::uint32_t, const char*> ops[] = {
        {0, "READ"}, {1, "WRITE"}, {2, "FLUSH"}, {3, "DISCARD"}, {5, "WRITE_ZEROES"}};
    std::string text = "op " + std::to_string(op_flags & ublk::uapi::op_mask);
    for (const auto& [op, name] : ops) {
        text = op == (op_flags & ublk::uapi::op_mask) ? name : text;
    }
    std::uint32_t rest = op_flags & ~ublk::uapi::op_mask;
    for (const auto& [bit, name] : {std::pair{flag::fua, " FUA"}, {flag::nounmap, " NOUNMAP"}}) {
        text += (rest & bit) != 0 ? name : "";
        rest &= ~bit;
    }
    return rest == 0 ? text : text + " flags " + hex(rest);
}

// ---------------------------------------------------------------- one thread of the server

/// A request that a thread has got.
struct request_seen {
    std::uint16_t queue = 0;
    std::uint16_t tag = 0;
};

/// Where the descriptors of a device's queues are mapped.
using descriptors = std::map<std::uint16_t, const std::byte*>;

/// A thread of the server. It does what it is told, one order after the other, and looks for events
/// only while an order says so or it serves: so a script decides what the kernel can deliver when.
template <class Kernel>
class server_thread {
public:
    struct event {
        ublk::detail::user_data ud{0};
        int result = 0;
    };

    explicit server_thread(const Kernel& k) : state_{std::make_shared<state>(k)} {
        thread_.emplace([mine = state_] { mine->live(); });
    }
    server_thread(const server_thread&) = delete;
    server_thread& operator=(const server_thread&) = delete;

    /// Whoever does not come to its end is left behind.
    ~server_thread() {
        if (stuck_ || !order([](state& s) { s.leaving = true; }, patience)) {
            thread_->detach();
        } else {
            thread_->join();
        }
    }

    /// Runs `what` in the thread; false where it has not ended within the limit.
    template <class Action>
    bool order(Action action, milliseconds limit) {
        if (stuck_) {
            return false;
        }
        state& s = *state_;
        const std::lock_guard lock{s.mutex};
        s.order = [action](state& mine) { action(mine); };
        s.done = false;
        s.changed.notify_all();
        stuck_ = !s.changed.wait_until(s.mutex, ublk::detail::from_now(s.kernel, limit),
                                       [&s] { return s.done; });
        return !stuck_;
    }

    // Only by orders.
    class state {
    public:
        explicit state(const Kernel& k) : kernel{k} {}

        void live() {
            mutex.lock();
            while (!leaving) {
                if (order) {
                    const auto action = std::exchange(order, nullptr);
                    mutex.unlock();
                    action(*this);
                    mutex.lock();
                    done = true;
                    changed.notify_all();
                } else if (serving) {
                    mutex.unlock();
                    serve();
                    mutex.lock();
                    nap(1ms);
                } else {
                    nap(60s);
                }
            }
            mutex.unlock();
        }

        std::string make_port(const typename Kernel::channel& channel, descriptors where,
                              std::size_t desc_size, unsigned tags) {
            try {
                rouse_ = std::make_unique<typename Kernel::wakeup>();
                port_ = std::make_unique<typename Kernel::port>(
                    channel, *rouse_, ublk::detail::port_needs{.tags = tags});
            } catch (const ublk::error& refused) {
                return name_of(-refused.errno_value());
            }
            where_ = std::move(where);
            desc_size_ = desc_size;
            return "0";
        }

        void close_port() {
            serving = false;
            port_.reset();
            rouse_.reset();
            slots_.clear();
            inbox_.clear();
        }

        int fetch(std::uint16_t queue, std::uint16_t tag, bool with_buffer) {
            slot& s = slots_[{queue, tag}];
            s.label = "q" + std::to_string(queue) + " t" + std::to_string(tag);
            s.with_buffer = with_buffer;
            port_->fetch(ublk::queue_id{queue}, ublk::tag{tag}, address(s), user_data(queue, tag));
            return port_->flush();
        }

        int commit(std::uint16_t queue, std::uint16_t tag, int result, bool with_buffer,
                   std::uint8_t fill, const std::string& label) {
            slot& s = slots_[{queue, tag}];
            s.label = label;
            s.was_owned = std::exchange(s.owned, false);
            s.with_buffer = with_buffer;
            if (std::byte* const memory = buffer(s); memory != nullptr && s.reading) {
                std::fill_n(memory, buffer_bytes, std::byte{fill});
            }
            port_->commit(ublk::queue_id{queue}, ublk::tag{tag}, result, address(s),
                          user_data(queue, tag));
            return port_->flush();
        }

        /// The next event; none where the limit passes without one.
        std::optional<event> next(milliseconds limit) {
            const ublk::detail::deadline until = ublk::detail::from_now(kernel, limit);
            while (true) {
                collect();
                if (!inbox_.empty()) {
                    const event first = inbox_.front();
                    inbox_.pop_front();
                    return first;
                }
                if (kernel.now() >= until) {
                    return std::nullopt;
                }
                const std::lock_guard lock{mutex};
                nap(1ms);
            }
        }

        [[nodiscard]] const std::string& label(ublk::detail::user_data t) { return at(t).label; }

        /// The descriptor of a request and the bytes that came with it.
        [[nodiscard]] std::string describe(ublk::detail::user_data t, bool complete) {
            const auto found = where_.find(t.queue_index());
            if (found == where_.end()) {
                return "without a map";
            }
            const ublk::uapi::io_desc seen = descriptor(t);
            std::string text = "q" + std::to_string(t.queue_index()) + " " +
                               op_text(seen.op_flags) + " " + std::to_string(seen.start_sector) +
                               "+" + std::to_string(seen.nr_sectors);
            slot& s = at(t);
            if (seen.op_flags % 256 == 1 && s.with_buffer &&
                complete) {  // else it is not there yet
                text += summary({s.buffer.get(), length(seen)});
            }
            const bool ours = seen.addr == reinterpret_cast<std::uintptr_t>(buffer(s));
            return text + (ours ? "" : " addr " + hex(seen.addr));
        }

        /// From now on every request is answered, by `answer` or, where that is 0, as done.
        void begin_to_serve(int answer) {
            answer_ = answer;
            serving = port_ != nullptr;
            if (serving && answer != 0) {
                for (auto& [key, s] : slots_) {
                    if (s.owned && !s.given_up) {
                        s.given_up = true;
                        (void)commit(key.first, key.second, answer, s.with_buffer, 0, "late");
                    }
                }
            }
        }

        const Kernel kernel;
        typename Kernel::mutex mutex;
        typename Kernel::condition changed;
        std::function<void(state&)> order;
        bool done = false;
        bool leaving = false;
        bool serving = false;

    private:
        friend server_thread;
        static constexpr std::size_t buffer_bytes = 128u << 10;

        struct release {
            void operator()(std::byte* memory) const noexcept {
                ::operator delete (memory, std::align_val_t{4096});
            }
        };
        struct slot {
            std::unique_ptr<std::byte, release> buffer;
            std::string label;
            bool with_buffer = true;
            bool owned = false;
            bool was_owned = false;
            bool reading = false;
            bool given_up = false;
        };

        [[nodiscard]] static ublk::detail::user_data user_data(std::uint16_t queue,
                                                               std::uint16_t tag) {
            return ublk::detail::user_data::io(queue, ublk::tag{tag});
        }
        [[nodiscard]] slot& at(ublk::detail::user_data t) {
            return slots_[{t.queue_index(), t.tag().value()}];
        }
        [[nodiscard]] static std::size_t length(const ublk::uapi::io_desc& seen) {
            return std::min<std::size_t>(std::size_t{seen.nr_sectors} * 512, buffer_bytes);
        }

        [[nodiscard]] static std::byte* buffer(slot& s) {
            if (!s.with_buffer) {
                return nullptr;
            }
            if (!s.buffer) {
                s.buffer.reset(
                    static_cast<std::byte*>(::operator new (buffer_bytes, std::align_val_t{4096})));
                std::fill_n(s.buffer.get(), buffer_bytes, std::byte{0xcc});
            }
            return s.buffer.get();
        }

        [[nodiscard]] static ublk::detail::buffer_address address(slot& s) {
            return {.memory = reinterpret_cast<std::uintptr_t>(buffer(s))};
        }

        [[nodiscard]] ublk::uapi::io_desc descriptor(ublk::detail::user_data t) {
            ublk::uapi::io_desc seen;
            const auto found = where_.find(t.queue_index());
            if (found != where_.end()) {
                std::memcpy(&seen, found->second + t.tag().value() * desc_size_, sizeof seen);
            }
            return seen;
        }

        /// With the mutex held.
        void nap(milliseconds time) {
            (void)changed.wait_until(mutex, ublk::detail::from_now(kernel, time),
                                     [this] { return order != nullptr; });
        }

        void collect() {
            if (!port_) {
                return;
            }
            (void)port_->flush_and_collect();
            port_->drain([this](ublk::detail::user_data t, int result) {
                if (t.is_io()) {
                    note(t, result);
                    inbox_.push_back({t, result});
                }
            });
        }

        // A refused commit leaves the request with the server.
        void note(ublk::detail::user_data t, int result) {
            slot& s = at(t);
            if (result >= 0) {
                s.owned = true;
                s.reading = descriptor(t).op_flags % 256 == 0;
            } else if (result == -EINVAL || result == -EBUSY) {
                s.owned = s.owned || s.was_owned;
            }
            s.was_owned = false;
        }

        void serve() {
            collect();
            std::deque<event> all;
            all.swap(inbox_);
            for (const event& e : all) {
                const ublk::uapi::io_desc seen = descriptor(e.ud);
                slot& s = at(e.ud);
                if (e.result != 0 || !s.owned) {
                    continue;
                }
                const bool data = seen.op_flags % 256 < 2;
                const int good = data ? static_cast<int>(length(seen)) : 0;
                (void)commit(e.ud.queue_index(), e.ud.tag().value(), answer_ != 0 ? answer_ : good,
                             s.with_buffer, 0, "served");
            }
        }

        std::unique_ptr<typename Kernel::wakeup> rouse_;
        std::unique_ptr<typename Kernel::port> port_;
        std::map<std::pair<std::uint16_t, std::uint16_t>, slot> slots_;
        std::deque<event> inbox_;
        descriptors where_;
        std::size_t desc_size_ = sizeof(ublk::uapi::io_desc);
        int answer_ = 0;
    };

private:
    std::shared_ptr<state> state_;
    std::optional<typename Kernel::thread> thread_;
    bool stuck_ = false;
};

// ---------------------------------------------------------------- the player

template <ublk::detail::kernel Kernel, clients Client>
class player {
public:
    player(const Kernel& k, Client client)
        : kernel_{k}, client_{std::move(client)}, control_{k.open_control()} {}

    transcript play(const script& played) {
        transcript lines;
        for (const step& each : played.steps) {
            std::string outcome;
            try {
                outcome = take(each);
            } catch (const ublk::error& refused) {
                outcome = name_of(-refused.errno_value());
            } catch (const std::exception& thrown) {
                outcome = std::string{"threw "} + thrown.what();
            }
            lines.push_back(each.text + ": " + outcome);
        }
        for (std::string& line : clean_up()) {
            lines.push_back(std::move(line));
        }
        return lines;
    }

private:
    using worker = server_thread<Kernel>;
    using work = typename worker::state;

    struct device {
        std::uint32_t id = 0;
        std::size_t desc_size = sizeof(ublk::uapi::io_desc);
        std::size_t depth = 0;
        std::unique_ptr<typename Kernel::channel> channel;
        std::map<std::uint16_t, ublk::detail::mapping> maps;
    };
    struct flight {
        ublk::detail::control_ticket ticket = 0;
        command requested;
    };

    // ------------------------------------------------------------ steps

    std::string take(const step& s) {
        switch (s.kind) {
        case verb::call:
            return call(s.requested, s.limit);
        case verb::begin:
            flights_[s.number] = {control_.begin(composed(s.requested)), s.requested};
            return "begun";
        case verb::finish:
            return finish(s.number, s.limit);
        case verb::cancel:
            control_.cancel(flights_.at(s.number).ticket);
            return "asked";
        case verb::await_state:
            return await_state(s.device, s.result, s.limit);
        case verb::await_gone:
            return await_state(s.device, -ENODEV, s.limit);
        case verb::pause:
            rest(s.limit);
            return "over";
        case verb::client:
            doings_[s.number] = s.action;
            doings_[s.number].cpu = cpu_of(s.device, s.action.queue);
            client_.begin(s.number, doings_[s.number], id_of(s.device));
            return "begun";
        case verb::await:
            return await(s.number, s.limit);
        default:
            return serve(s);
        }
    }

    // The server's.
    std::string serve(const step& s) {
        switch (s.kind) {
        case verb::open:
            devices_[s.device].channel.reset(new typename Kernel::channel(
                kernel_.open_channel(id_of(s.device), ublk::detail::from_now(kernel_, s.limit))));
            return "0";
        case verb::close:
            close(s.device);
            rest(settling);
            return "0";
        case verb::shut:
            devices_[s.device].channel.reset();
            rest(settling);
            return "0";
        case verb::unmap:
            devices_[s.device].maps.erase(s.queue);
            rest(settling);
            return "0";
        case verb::die:
            die(s.device);
            return "0";
        case verb::map:
            return map(s);
        case verb::port:
            return make_port(s);
        case verb::close_port:
            homes_.erase(s.thread);
            return order(s.thread, [](work& w) { w.close_port(); });
        case verb::serve:
            return order(s.thread, [](work& w) { w.begin_to_serve(0); });
        case verb::hold:
            return order(s.thread, [](work& w) { w.serving = false; });
        case verb::fetch:
            return fetch(s);
        case verb::commit:
            return commit(s);
        case verb::expect:
            return expect(s);
        case verb::drain:
            return drain(s);
        default:
            return "no such verb";
        }
    }

    // ------------------------------------------------------------ control commands

    [[nodiscard]] std::uint32_t id_of(int slot) const {
        const auto found = devices_.find(slot);
        return found != devices_.end() ? found->second.id : no_such_id;
    }

    [[nodiscard]] static std::string own_path(std::uint32_t id) {
        return "/dev/ublkc" + std::to_string(id);
    }

    [[nodiscard]] static bool is(const command& c, std::uint32_t op) {
        return ublk::uapi::legacy(c.op) == ublk::uapi::legacy(op);
    }

    [[nodiscard]] std::size_t path_bytes(const command& c) const {
        if (c.path == path_kind::none) {
            return 0;
        }
        const std::size_t length =
            (c.path == path_kind::own ? own_path(id_of(c.device)) : c.literal).size();
        return (length + 8) / 8 * 8;
    }

    [[nodiscard]] ublk::detail::control_command composed(const command& c) const {
        ublk::detail::control_command made;
        made.op = c.op;
        const bool adds = is(c, ublk::uapi::ctrl::add_dev);
        made.header.dev_id = adds || c.device < 0 ? c.id : id_of(c.device);
        made.header.queue_id = c.queue_id;
        made.header.data = c.pid == process::none ? c.data
                           : c.pid == process::self
                               ? static_cast<std::uint64_t>(kernel_.process_id())
                               : 1;
        const std::size_t prefix = path_bytes(c);
        const std::string path = c.path == path_kind::own ? own_path(id_of(c.device)) : c.literal;
        std::copy_n(reinterpret_cast<const std::byte*>(path.data()), path.size(), made.payload);
        made.header.dev_path_len = c.path_len.value_or(static_cast<std::uint16_t>(prefix));
        made.header.len = static_cast<std::uint16_t>(c.len + prefix);
        std::copy(c.payload.begin(), c.payload.end(), made.payload + prefix);
        if (adds && c.payload.size() >= sizeof(ublk::uapi::dev_info)) {
            ublk::uapi::dev_info inside;
            std::memcpy(&inside, made.payload, sizeof inside);
            inside.dev_id = c.id + (c.other_id_inside ? 1u : 0u);
            std::memcpy(made.payload, &inside, sizeof inside);
        }
        return made;
    }

    std::string call(const command& c, milliseconds limit) {
        const ublk::detail::deadline until = ublk::detail::from_now(kernel_, limit);
        while (true) {
            ublk::detail::control_command carried;
            const ublk::detail::control_ticket ticket = control_.begin(composed(c));
            int answer = control_.finish(ticket, carried, until);
            if (answer == ublk::detail::control_pending) {
                control_.cancel(ticket);
                answer =
                    control_.finish(ticket, carried, ublk::detail::from_now(kernel_, patience));
                return answer == ublk::detail::control_pending
                           ? give_up(ticket, c)
                           : "pending, cancelled " + name_of(answer);
            }
            if (answer != -c.again_while || answer == 0 || kernel_.now() >= until) {
                return told(c, answer, carried);
            }
            rest(5ms);
        }
    }

    std::string give_up(ublk::detail::control_ticket ticket, const command& c) {
        flights_[stray_--] = {ticket, c};
        return "pending, and cannot be cancelled";
    }

    /// Its answer if there is one in time; it may be asked again.
    std::string finish(unsigned number, milliseconds limit) {
        const ublk::detail::deadline until = ublk::detail::from_now(kernel_, limit);
        while (true) {
            flight& f = flights_.at(number);
            ublk::detail::control_command carried;
            const int answer = control_.finish(f.ticket, carried, until);
            if (answer == ublk::detail::control_pending) {
                return "pending";
            }
            if (answer != -f.requested.again_while || answer == 0 || kernel_.now() >= until) {
                const command requested = f.requested;
                flights_.erase(number);
                return told(requested, answer, carried);
            }
            rest(5ms);
            f.ticket = control_.begin(composed(f.requested));
        }
    }

    /// The answer, and what the kernel wrote.
    std::string told(const command& c, int answer, const ublk::detail::control_command& carried) {
        std::string text = name_of(answer);
        if (answer < 0) {
            return text;
        }
        // Nobody but GET_DEV_INFO2 takes the path off an ordinary device's buffer.
        const bool behind = is(c, ublk::uapi::ctrl::get_dev_info2);
        const std::byte* const payload = carried.payload + (behind ? path_bytes(c) : 0);
        if (is(c, ublk::uapi::ctrl::add_dev)) {
            remember(c.device, payload);
        }
        if (is(c, ublk::uapi::ctrl::add_dev) || is(c, ublk::uapi::ctrl::get_dev_info) ||
            is(c, ublk::uapi::ctrl::get_dev_info2)) {
            text += told_info(payload);
        } else if (is(c, ublk::uapi::ctrl::get_params)) {
            text += told_params(payload, c.payload);
        } else if (c.op == ublk::uapi::ctrl::get_features) {
            std::uint64_t features = 0;
            std::memcpy(&features, payload, sizeof features);
            text += " " + hex(features);
        } else if (is(c, ublk::uapi::ctrl::get_queue_affinity)) {
            text += told_cpus({payload, c.len});
        }
        return text;
    }

    void remember(int slot, const std::byte* payload) {
        ublk::uapi::dev_info info;
        std::memcpy(&info, payload, sizeof info);
        device& d = devices_[slot];
        d.id = info.dev_id;
        d.depth = info.queue_depth;
        d.desc_size = info.io_desc_size != 0 ? info.io_desc_size : sizeof(ublk::uapi::io_desc);
        added_.push_back(info.dev_id);
    }

    [[nodiscard]] std::string told_info(const std::byte* payload) const {
        ublk::uapi::dev_info info;
        std::memcpy(&info, payload, sizeof info);
        std::string id = std::to_string(info.dev_id);
        for (const auto& [slot, d] : devices_) {
            if (d.id == info.dev_id) {
                id = "of d" + std::to_string(slot);
            }
        }
        const bool self = info.pid == kernel_.process_id();
        return " id " + id + ", queues " + std::to_string(info.nr_hw_queues) + ", depth " +
               std::to_string(info.queue_depth) + ", state " +
               std::to_string(static_cast<int>(info.state)) + ", descriptor " +
               std::to_string(info.io_desc_size) + ", buffer " +
               std::to_string(info.max_io_buf_bytes) + ", pid " +
               (self ? "self" : std::to_string(info.pid)) + ", flags " + hex(info.flags) + " " +
               hex(info.server_flags) + ", owner " + std::to_string(info.owner_uid) + ":" +
               std::to_string(info.owner_gid) + ", rest " + hex(info.pad1) + " " +
               hex(info.reserved1) + " " + hex(info.reserved2);
    }

    /// How many; which ones depends on the machine.
    [[nodiscard]] static std::string told_cpus(std::span<const std::byte> mask) {
        int cpus = 0;
        for (const std::byte each : mask) {
            cpus += std::popcount(static_cast<std::uint8_t>(each));
        }
        return " CPUs " + std::to_string(cpus);
    }

    /// Word by word as far as was asked for, numbers of device nodes left out; and whether anything
    /// was written beyond.
    [[nodiscard]] static std::string told_params(const std::byte* payload,
                                                 const std::vector<std::byte>& sent) {
        std::uint32_t requested = 0;
        std::memcpy(&requested, sent.data(), std::min(sent.size(), sizeof requested));
        const std::size_t length = std::min<std::size_t>(requested, sizeof(ublk::uapi::params));
        constexpr std::size_t nodes = offsetof(ublk::uapi::params, devt);
        std::string text;
        for (std::size_t at = 0; at < length; at += 4) {
            std::uint32_t word = 0;
            std::memcpy(&word, payload + at, std::min<std::size_t>(4, length - at));
            const bool node = at >= nodes && at < nodes + sizeof(ublk::uapi::param_devt);
            text += (at == 0 ? " " : ".") + (node && word != 0 ? "node" : hex(word).substr(2));
        }
        const bool kept =
            length >= sent.size() || std::equal(sent.begin() + static_cast<std::ptrdiff_t>(length),
                                                sent.end(), payload + length);
        return text + (kept ? "" : ", and more was written");
    }

    /// The state of a device, or the errno of asking for it.
    int state_of(int slot) {
        command c;
        c.op = ublk::uapi::ctrl::get_dev_info;
        c.device = slot;
        c.len = sizeof(ublk::uapi::dev_info);
        ublk::detail::control_command carried;
        const int answer = control_.finish(control_.begin(composed(c)), carried,
                                           ublk::detail::from_now(kernel_, patience));
        ublk::uapi::dev_info info;
        std::memcpy(&info, carried.payload, sizeof info);
        return answer < 0 ? answer : static_cast<int>(info.state);
    }

    /// The first CPU whose requests that queue carries.
    int cpu_of(int slot, int queue) {
        if (queue < 0) {
            return -1;
        }
        command c;
        c.op = ublk::uapi::ctrl::get_queue_affinity;
        c.device = slot;
        c.data = static_cast<std::uint64_t>(queue);
        c.len = 64;
        ublk::detail::control_command carried;
        (void)control_.finish(control_.begin(composed(c)), carried,
                              ublk::detail::from_now(kernel_, patience));
        int cpu = 0;
        while (cpu < 512 && (static_cast<unsigned>(carried.payload[cpu / 8]) >> cpu % 8 & 1) == 0) {
            ++cpu;
        }
        return cpu;
    }

    std::string await_state(int slot, int wanted, milliseconds limit) {
        const ublk::detail::deadline until = ublk::detail::from_now(kernel_, limit);
        int seen = state_of(slot);
        while (seen != wanted && kernel_.now() < until) {
            rest(5ms);
            seen = state_of(slot);
        }
        return name_of(seen);
    }

    void rest(milliseconds time) {
        const std::lock_guard lock{mutex_};
        (void)resting_.wait_until(mutex_, ublk::detail::from_now(kernel_, time),
                                  [] { return false; });
    }

    // ------------------------------------------------------------ the server

    void close(int slot) {
        device& d = devices_[slot];
        d.maps.clear();
        d.channel.reset();
    }

    void die(int slot) {
        for (const auto& [number, home] : std::map{homes_}) {
            if (home == slot) {
                homes_.erase(number);
                (void)order(number, [](work& w) { w.close_port(); });
            }
        }
        close(slot);
    }

    std::string map(const step& s) {
        device& d = devices_[s.device];
        if (!d.channel) {
            return "no channel";
        }
        const std::size_t page = kernel_.page_size();
        const std::size_t stride = ublk::uapi::cmd_buf_stride(d.desc_size, page);
        const std::size_t bytes =
            s.bytes != 0 ? s.bytes : ublk::uapi::cmd_buf_size(d.depth, d.desc_size, page);
        ublk::detail::mapping made = d.channel->map(s.queue * stride + s.offset, bytes);
        d.maps[s.queue] = std::move(made);
        return "0";
    }

    worker& thread(unsigned number) {
        auto& found = threads_[number];
        if (!found) {
            found = std::make_unique<worker>(kernel_);
        }
        return *found;
    }

    template <class Action>
    std::string order(unsigned number, Action action) {
        return thread(number).order(action, patience) ? "0" : "the thread is stuck";
    }

    std::string make_port(const step& s) {
        device& d = devices_[s.device];
        if (!d.channel) {
            return "no channel";
        }
        descriptors where;
        for (const auto& [queue, mapped] : d.maps) {
            where[queue] = mapped.data();
        }
        std::string answer = "the thread is stuck";
        const bool ended = thread(s.thread).order(
            [&](work& w) {
                answer =
                    w.make_port(*d.channel, where, d.desc_size, static_cast<unsigned>(s.bytes));
            },
            patience);
        if (ended && answer == "0") {
            homes_[s.thread] = s.device;
        }
        return answer;
    }

    [[nodiscard]] bool homeless(unsigned number) const { return !homes_.contains(number); }

    std::string fetch(const step& s) {
        if (homeless(s.thread)) {
            return "no port";
        }
        int answer = 0;
        (void)order(s.thread, [&](work& w) { answer = w.fetch(s.queue, s.tag, s.buffer); });
        return name_of(answer);
    }

    std::string commit(const step& s) {
        if (homeless(s.thread)) {
            return "no port";
        }
        std::uint16_t queue = s.queue;
        std::uint16_t tag = s.tag;
        std::string label = "q" + std::to_string(queue) + " t" + std::to_string(tag);
        if (s.number != 0) {
            const auto found = requests_.find(s.number);
            if (found == requests_.end()) {
                return "no such request";
            }
            queue = found->second.queue;
            tag = found->second.tag;
            label = "request " + std::to_string(s.number);
        }
        int answer = 0;
        (void)order(s.thread, [&](work& w) {
            answer = w.commit(queue, tag, s.result, s.buffer, s.fill, label);
        });
        return name_of(answer);
    }

    std::string expect(const step& s) {
        if (homeless(s.thread)) {
            return "no port";
        }
        std::string text = "nothing";
        (void)thread(s.thread).order(
            [&](work& w) {
                const auto e = w.next(s.limit);
                if (e && e->result < 0) {
                    text = w.label(e->ud) + " " + name_of(e->result);
                } else if (e) {
                    text = (e->result == 0 ? "" : "result " + name_of(e->result) + " ") +
                           w.describe(e->ud, e->result == 0);
                    requests_[s.number] = {e->ud.queue_index(), e->ud.tag().value()};
                }
            },
            s.limit + patience);
        return text;
    }

    std::string drain(const step& s) {
        if (homeless(s.thread)) {
            return "no port";
        }
        std::map<int, unsigned> seen;
        (void)thread(s.thread).order(
            [&](work& w) {
                for (std::size_t i = 0; i < s.bytes; ++i) {
                    const auto e = w.next(s.limit);
                    if (!e) {
                        break;
                    }
                    ++seen[e->result];
                }
            },
            s.limit + patience);
        std::string text;
        for (const auto& [result, times] : seen) {
            text +=
                (text.empty() ? "" : ", ") + std::to_string(times) + " times " + name_of(result);
        }
        return text.empty() ? "nothing" : text;
    }

    // ------------------------------------------------------------ clients

    std::string await(unsigned number, milliseconds limit) {
        const ublk::detail::deadline until = ublk::detail::from_now(kernel_, limit);
        while (true) {
            if (const auto outcome = client_.poll(number)) {
                const client_action done = doings_.at(number);
                doings_.erase(number);
                if (opens(done.kind) && outcome->code == 0) {
                    files_.insert(done.file);
                } else if (done.kind == deed::close) {
                    files_.erase(done.file);
                }
                return (outcome->code == 0 ? "0" : name_of(-outcome->code)) +
                       summary(outcome->data);
            }
            if (kernel_.now() >= until) {
                return "pending";
            }
            rest(2ms);
        }
    }

    // ------------------------------------------------------------ the end

    // Owned requests are failed first, else nothing here would come to its end; then STOP_DEV while
    // the rings are still there, which is how every driver likes it; the rest only then.
    transcript clean_up() {
        transcript complaints;
        give_up_waiting();
        for (const auto& [number, home] : homes_) {
            (void)home;
            (void)order(number, [](work& w) { w.begin_to_serve(-EIO); });
        }
        for (const std::uint32_t id : added_) {
            stop(id, complaints);
        }
        for (auto& [slot, d] : devices_) {
            (void)d;
            die(slot);
        }
        for (const auto& [number, doing] : std::map{doings_}) {
            (void)doing;
            if (await(number, patience) == "pending") {
                complaints.push_back("left: the client's deed " + std::to_string(number));
            }
        }
        close_files(complaints);
        for (const std::uint32_t id : added_) {
            remove(id, complaints);
        }
        for (const auto& [number, f] : std::map{flights_}) {
            (void)f;
            if (finish(number, patience) == "pending") {
                complaints.push_back("left: the command " + std::to_string(number));
            }
        }
        threads_.clear();
        return complaints;
    }

    /// What waits for fetches that will never come, waits no longer.
    void give_up_waiting() {
        for (const auto& [number, f] : std::map{flights_}) {
            if (is(f.requested, ublk::uapi::ctrl::start_dev) ||
                is(f.requested, ublk::uapi::ctrl::end_user_recovery)) {
                if (finish(number, 0ms) == "pending") {
                    control_.cancel(f.ticket);
                    (void)finish(number, patience);
                }
            }
        }
    }

    int ask(std::uint32_t op, std::uint32_t id, milliseconds limit, bool give_up_at_end) {
        command c;
        c.op = op;
        c.id = id;
        const ublk::detail::control_ticket ticket = control_.begin(composed(c));
        ublk::detail::control_command carried;
        int answer = control_.finish(ticket, carried, ublk::detail::from_now(kernel_, limit));
        if (answer == ublk::detail::control_pending && give_up_at_end) {
            control_.cancel(ticket);
            (void)control_.finish(ticket, carried, ublk::detail::from_now(kernel_, patience));
        } else if (answer == ublk::detail::control_pending) {
            flights_[stray_--] = {ticket, c};
        }
        return answer;
    }

    void stop(std::uint32_t id, transcript& complaints) {
        if (ask(ublk::uapi::ctrl::stop_dev, id, patience, false) == ublk::detail::control_pending) {
            complaints.push_back("STOP_DEV at the end: pending");
        }
    }

    void remove(std::uint32_t id, transcript& complaints) {
        if (ask(ublk::uapi::ctrl::del_dev, id, patience, true) == ublk::detail::control_pending) {
            complaints.push_back("left: a device, since DEL_DEV at the end is pending");
        }
    }

    void close_files(transcript& complaints) {
        unsigned number = 1u << 20;
        for (const unsigned file : std::set{files_}) {
            client_action close;
            close.kind = deed::close;
            close.file = file;
            ++number;
            client_.begin(number, close, no_such_id);
            doings_[number] = close;
            if (await(number, patience) == "pending") {
                complaints.push_back("left: the client's file " + std::to_string(file));
            }
        }
    }

    static constexpr std::uint32_t no_such_id = 987654;
    static constexpr milliseconds settling{250};

    Kernel kernel_;
    Client client_;
    typename Kernel::control control_;
    typename Kernel::mutex mutex_;
    typename Kernel::condition resting_;
    std::map<int, device> devices_;
    std::vector<std::uint32_t> added_;
    std::map<unsigned, std::unique_ptr<worker>> threads_;
    std::map<unsigned, int> homes_;  // which device the port of a thread belongs to
    std::map<unsigned, flight> flights_;
    std::map<unsigned, request_seen> requests_;
    std::map<unsigned, client_action> doings_;
    std::set<unsigned> files_;
    unsigned stray_ = ~0u;
};

/// Plays a script from begin to end, cleaning included.
template <ublk::detail::kernel Kernel, clients Client>
[[nodiscard]] transcript play(const script& played, const Kernel& kernel, Client client) {
    const auto stage = std::make_unique<player<Kernel, Client>>(kernel, std::move(client));
    return stage->play(played);
}

}  // namespace ublk_test::differential
