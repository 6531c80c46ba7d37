// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/sim/fiber.hpp>
#include <ublk/sim/random.hpp>
#include <ublk/sim/seam.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

struct task;

/// Tasks that wait for the same event.
using wait_list = std::vector<task*>;

/// How a wait came to its end.
enum class wake_up {
    called,  ///< the event happened
    late,    ///< the deadline passed
    stuck    ///< nothing in this world can move any more
};

/// A simulated thread: of the server, of a client, or of the kernel.
struct task {
    explicit task(const char* role) : name{role} {}
    task(const char* role, void (*body)(void*), void* argument)
        : flow{body, argument}, name{role} {}

    fiber flow;
    const char* name;
    const char* waits_for = nullptr;  ///< in words, while it waits
    wait_list* waits_on = nullptr;
    bool bears_a_stop = false;  ///< can be told that it waits in vain
    wake_up last = wake_up::called;
    std::pair<deadline, std::uint64_t> alarm{};  ///< key among the timers; {} if there is none
    const void* mark = nullptr;
    const bool* killed = nullptr;  ///< whether its process was, where that is known
    bool ended = false;
    wait_list joiners;
};

/// Runs tasks one at a time on the thread that made it, in an order that the dice decide, on a
/// clock that only moves when something happens or everybody waits. Nothing here ever sleeps.
class scheduler {
public:
    static constexpr deadline never = deadline::max();

    explicit scheduler(random& dice) : dice_{dice}, main_{std::make_shared<task>("main")} {
        UBLK_ASSERT(here() == nullptr, "a thread has one simulated world at a time");
        here() = this;
        running_ = main_.get();
    }
    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;
    ~scheduler() { here() = nullptr; }

    /// The one of the calling thread, or null.
    [[nodiscard]] static scheduler*& here() noexcept {
        static thread_local scheduler* mine = nullptr;
        return mine;
    }

    [[nodiscard]] deadline now() const noexcept { return now_; }
    void pass(std::chrono::nanoseconds time) noexcept { now_ += time; }
    [[nodiscard]] task& running() const noexcept { return *running_; }

    /// Tasks other than the one that made the world.
    [[nodiscard]] std::size_t tasks() const noexcept { return alive_.size(); }

    template <class Body>
    std::shared_ptr<task> spawn(const char* name, Body body) {
        auto start = std::make_unique<beginning<Body>>(beginning<Body>{this, std::move(body)});
        auto made = std::make_shared<task>(name, &begin<Body>, start.get());
        (void)start.release();
        alive_.push_back(made);
        ready_.push_back(made.get());
        return made;
    }

    /// Somebody else may go first.
    void yield() {
        ready_.push_back(running_);
        go_on();
    }

    /// Waits until `list` is woken. `bears_a_stop`: may return `stuck`; a task that may not ends
    /// the program when nothing can move any more.
    wake_up block(wait_list& list, const char* reason, deadline until = never,
                  bool bears_a_stop = false) {
        task& me = *running_;
        me.waits_on = &list;
        me.waits_for = reason;
        me.bears_a_stop = bears_a_stop;
        list.push_back(&me);
        if (until != never) {
            me.alarm = {until, ++timers_set_};
            timers_.emplace(me.alarm, &me);
        }
        go_on();
        return me.last;
    }

    void sleep(std::chrono::nanoseconds time) {
        wait_list nobody;
        (void)block(nobody, "time to pass", now_ + time);
    }

    void wake(wait_list& list) {
        while (!list.empty()) {
            wake(*list.back(), wake_up::called);
        }
    }

    /// Wakes one of them, whichever.
    void wake_one(wait_list& list) {
        if (!list.empty()) {
            wake(*list[dice_.below(list.size())], wake_up::called);
        }
    }

    /// Ends the wait of that task, if it waits.
    void interrupt(task& waiter) {
        if (waiter.waits_on != nullptr) {
            wake(waiter, wake_up::called);
        }
    }

    /// Who waits for what, a line each.
    [[nodiscard]] std::string describe_waits() const {
        std::string text = line_of(*main_);
        for (const auto& each : alive_) {
            text += line_of(*each);
        }
        return text;
    }

    /// Whether the world has come to a stop at least once. Whoever is told clears it.
    [[nodiscard]] bool take_stuck() noexcept { return std::exchange(was_stuck_, false); }

private:
    template <class Body>
    struct beginning {
        scheduler* world;
        Body body;
    };

    template <class Body>
    static void begin(void* argument) {
        scheduler* world = nullptr;
        {
            const std::unique_ptr<beginning<Body>> start{static_cast<beginning<Body>*>(argument)};
            world = start->world;
            world->buried_.reset();
            start->body();
        }
        world->end();
    }

    [[nodiscard]] static std::string line_of(const task& each) {
        return std::string{"    "} + each.name + ": " +
               (each.waits_on != nullptr ? std::string{"waits for "} + each.waits_for
                                         : std::string{"is running"}) +
               "\n";
    }

    void wake(task& waiter, wake_up cause) {
        std::erase(*waiter.waits_on, &waiter);
        waiter.waits_on = nullptr;
        waiter.last = cause;
        if (waiter.alarm.second != 0) {
            timers_.erase(waiter.alarm);
            waiter.alarm = {};
        }
        ready_.push_back(&waiter);
    }

    [[noreturn]] void end() {
        task& me = *running_;
        me.ended = true;
        wake(me.joiners);
        const auto found = std::find_if(alive_.begin(), alive_.end(),
                                        [&me](const auto& each) { return each.get() == &me; });
        buried_ = std::move(*found);  // its stack is still under our feet
        alive_.erase(found);
        go_on(true);
        __builtin_unreachable();
    }

    /// Leaves the running task, which is in `ready_`, waits, or has ended.
    void go_on(bool last = false) {
        task& me = *running_;
        ring_alarms();
        while (ready_.empty()) {
            if (timers_.empty()) {
                come_to_a_stop();
            } else {
                now_ = std::max(now_, timers_.begin()->first.first);
                ring_alarms();
            }
        }
        const std::size_t choice = ready_.size() == 1 ? 0 : dice_.below(ready_.size());
        task& next = *std::exchange(ready_[choice], ready_.back());
        ready_.pop_back();
        if (&next == &me) {
            return;
        }
        running_ = &next;
        fiber::change(me.flow, next.flow, last);
        buried_.reset();
    }

    void ring_alarms() {
        while (!timers_.empty() && timers_.begin()->first.first <= now_) {
            wake(*timers_.begin()->second, wake_up::late);
        }
    }

    void come_to_a_stop() {
        was_stuck_ = true;
        std::vector<task*> told;
        const auto consider = [&told](task& each) {
            if (each.waits_on != nullptr && each.bears_a_stop) {
                told.push_back(&each);
            }
        };
        consider(*main_);
        for (const auto& each : alive_) {
            consider(*each);
        }
        if (told.empty()) {
            std::fprintf(stderr, "ublk sim: hang: nothing can move any more\n%s",
                         describe_waits().c_str());
            std::fflush(stderr);
            UBLK_ASSERT(!told.empty(), "a simulated world does not hang");
        }
        for (task* const each : told) {
            wake(*each, wake_up::stuck);
        }
    }

    random& dice_;
    std::shared_ptr<task> main_;
    std::vector<std::shared_ptr<task>> alive_;
    std::shared_ptr<task> buried_;
    std::vector<task*> ready_;
    std::map<std::pair<deadline, std::uint64_t>, task*> timers_;
    task* running_ = nullptr;
    deadline now_{std::chrono::hours{1}};  // not zero, which callers take for "at once"
    std::uint64_t timers_set_ = 0;
    bool was_stuck_ = false;
};

}  // namespace ublk::inline v0::sim
