// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/data_paths.hpp>
#include <ublk/data/queue.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/uapi.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test {

/// What a server says to its port, and a driver that follows a script: it knows for each tag whose
/// it is, and complains where the server breaks a rule. Operations wait until the script answers.
class scripted_port {
public:
    enum class verb { fetch, commit, get_data, register_buffer, unregister_buffer, start, cancel };

    struct command {
        verb action;
        unsigned queue = 0;
        unsigned tag = 0;
        int result = 0;
        std::uint64_t memory = 0;
        std::uint64_t registration = 0;
        unsigned index = 0;
    };

    struct tag_state {
        bool with_driver = false;
        bool registered = false;
        bool gone = false;
        unsigned requests = 0;
        unsigned commits = 0;
        int answer = 0;            ///< of the last commit
        std::uint64_t memory = 0;  ///< of the last fetch, commit or get_data
        ublk::detail::user_data event{0};
    };

    // ---- for the script
    std::vector<command> log{};
    std::vector<const ublk::detail::operation*> in_flight{};
    std::vector<std::string> complaints{};
    bool cancels_at_once = true;    ///< cancelled operations answer -ECANCELED
    std::vector<int> wait_codes{};  ///< what the next waits return
    unsigned flushes = 0;
    std::chrono::steady_clock::time_point time{};  ///< goes on when the script says so

    /// The world's next move, asked for where the server would sleep. False: there is none, and
    /// only another thread can go on.
    std::function<bool()> step{};

    [[nodiscard]] tag_state& at(unsigned queue, unsigned tag) { return tags_[{queue, tag}]; }

    [[nodiscard]] std::size_t count(verb action) const {
        return static_cast<std::size_t>(
            std::count_if(log.begin(), log.end(),
                          [action](const command& each) { return each.action == action; }));
    }

    /// What was said of one tag, in order.
    [[nodiscard]] std::vector<verb> said_of(unsigned queue, unsigned tag) const {
        std::vector<verb> all;
        for (const command& each : log) {
            if (each.queue == queue && each.tag == tag && each.action != verb::start &&
                each.action != verb::cancel) {
                all.push_back(each.action);
            }
        }
        return all;
    }

    /// An event on a tag that the driver holds.
    void deliver(unsigned queue, unsigned tag, int result) {
        tag_state& t = at(queue, tag);
        if (!t.with_driver) {
            complaints.emplace_back("the script delivers to a tag that the server has");
            return;
        }
        t.with_driver = false;
        t.gone = result < 0;
        t.requests += result == ublk::uapi::io_res_ok ? 1 : 0;
        events_.emplace_back(t.event, result);
    }

    void answer(const ublk::detail::operation& requested, int outcome) {
        const auto found = std::find(in_flight.begin(), in_flight.end(), &requested);
        if (found == in_flight.end()) {
            complaints.emplace_back("the script answers what is not in flight");
            return;
        }
        in_flight.erase(found);
        events_.emplace_back(ublk::detail::user_data::of(requested), outcome);
    }

    /// From any thread.
    static void wakeup(const void* port) noexcept {
        auto& self = *const_cast<scripted_port*>(static_cast<const scripted_port*>(port));
        const std::lock_guard lock{self.bell_};
        self.woken_ = true;
        self.rung_.notify_all();
    }

    // ---- what a server uses
    [[gnu::noinline]] void fetch(ublk::queue_id q, ublk::tag t, ublk::detail::buffer_address to,
                                 ublk::detail::user_data event) noexcept {
        log.push_back({verb::fetch, q.value(), t.value(), 0, to.memory, to.registration});
        take(q, t, to.memory, event);
    }

    [[gnu::noinline]] void commit(ublk::queue_id q, ublk::tag t, int result,
                                  ublk::detail::buffer_address to,
                                  ublk::detail::user_data event) noexcept {
        log.push_back({verb::commit, q.value(), t.value(), result, to.memory, to.registration});
        tag_state& s = at(q.value(), t.value());
        if (s.registered) {
            complaints.emplace_back("a commit of a tag whose pages the server has registered");
        }
        ++s.commits;
        s.answer = result;
        take(q, t, to.memory, event);
    }

    [[gnu::noinline]] void get_data(ublk::queue_id q, ublk::tag t, std::uint64_t memory,
                                    ublk::detail::user_data event) noexcept {
        log.push_back({verb::get_data, q.value(), t.value(), 0, memory});
        take(q, t, memory, event);
    }

    [[gnu::noinline]] void register_buffer(ublk::queue_id q, ublk::tag t,
                                           std::uint16_t index) noexcept {
        log.push_back({verb::register_buffer, q.value(), t.value(), 0, 0, 0, index});
        tag_state& s = at(q.value(), t.value());
        if (s.with_driver || std::exchange(s.registered, true)) {
            complaints.emplace_back("pages are registered twice, or without their request");
        }
    }

    [[gnu::noinline]] void unregister_buffer(ublk::queue_id q, ublk::tag t,
                                             std::uint16_t index) noexcept {
        log.push_back({verb::unregister_buffer, q.value(), t.value(), 0, 0, 0, index});
        tag_state& s = at(q.value(), t.value());
        if (s.with_driver || !std::exchange(s.registered, false)) {
            complaints.emplace_back("pages are unregistered that are not registered");
        }
        for (const ublk::detail::operation* each : in_flight) {
            if (ublk::detail::opcode::read_fixed == each->submitted.code &&
                each->submitted.buffer == index) {
                complaints.emplace_back("pages are unregistered under an operation");
            }
        }
    }

    [[gnu::noinline]] void start(const ublk::detail::operation& requested) noexcept {
        log.push_back({verb::start});
        in_flight.push_back(&requested);
    }

    [[gnu::noinline]] void cancel_operations() noexcept {
        log.push_back({verb::cancel});
        while (cancels_at_once && !in_flight.empty()) {
            answer(*in_flight.front(), -ECANCELED);
        }
    }

    [[nodiscard]] std::chrono::steady_clock::time_point now() const noexcept { return time; }

    [[gnu::noinline]] void listen() noexcept {
        const std::lock_guard lock{bell_};
        woken_ = reported_ = false;
    }

    int flush() noexcept {
        ++flushes;
        return 0;
    }
    int flush_and_collect() noexcept { return 0; }

    [[gnu::noinline]] int wait() noexcept {
        if (!wait_codes.empty()) {
            const int code = wait_codes.front();
            wait_codes.erase(wait_codes.begin());
            return code;
        }
        while (events_.empty() && !rings()) {
            if (step && step()) {
                continue;
            }
            std::unique_lock lock{bell_};
            if (!rung_.wait_for(lock, std::chrono::seconds{60},
                                [this] { return woken_ && !reported_; })) {
                complaints.emplace_back("the server sleeps and nothing can rouse it");
                return -EDEADLK;
            }
        }
        return 0;
    }

    template <class Consume>
    void drain(Consume&& consume) noexcept {
        take_events();
        for (const auto& [event, answer] : now_) {
            consume(event, answer);
        }
    }

private:
    void take(ublk::queue_id q, ublk::tag t, std::uint64_t memory, ublk::detail::user_data event) {
        tag_state& s = at(q.value(), t.value());
        if (std::exchange(s.with_driver, true) || s.gone) {
            complaints.emplace_back("the server gives away a tag that it does not have");
        }
        s.memory = memory;
        s.event = event;
    }

    [[nodiscard]] bool rings() {
        const std::lock_guard lock{bell_};
        return woken_ && !reported_;
    }

    [[gnu::noinline]] void take_events() {
        now_.clear();
        now_.swap(events_);
        const std::lock_guard lock{bell_};
        if (woken_ && !std::exchange(reported_, true)) {
            now_.emplace_back(ublk::detail::user_data::wake(), 1);
        }
    }

    std::map<std::pair<unsigned, unsigned>, tag_state> tags_{};
    std::vector<std::pair<ublk::detail::user_data, int>> events_{};
    std::vector<std::pair<ublk::detail::user_data, int>> now_{};
    std::mutex bell_{};
    std::condition_variable rung_{};
    bool woken_ = false;
    bool reported_ = false;
};

/// Queues whose descriptors a test writes.
class scripted_queues {
public:
    static constexpr std::size_t stride = 64u << 10;

    scripted_queues(unsigned count, unsigned depth, bool tag_buffers, int file = -1) {
        for (std::uint16_t q = 0; q < count; ++q) {
            ublk::detail::mapping memory{
                ublk::uapi::cmd_buf_size(depth, sizeof(ublk::uapi::io_desc), 4096),
                PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS,
                -1,
                0,
                "descriptors"};
            queues.emplace_back(ublk::queue_id{q}, std::move(memory), sizeof(ublk::uapi::io_desc),
                                tag_buffers ? ublk::detail::tag_buffers{depth, stride, {}}
                                            : ublk::detail::tag_buffers{},
                                depth, file);
        }
    }

    void describe(unsigned queue, unsigned tag, std::uint32_t op_flags, std::uint64_t sector,
                  std::uint32_t sectors) {
        auto* const all = reinterpret_cast<ublk::uapi::io_desc*>(queues[queue].descriptors.data());
        all[tag] = ublk::uapi::io_desc{op_flags, sectors, sector, 0};
    }

    std::vector<ublk::detail::queue> queues{};
};

}  // namespace ublk_test
