// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/machine.hpp>
#include <ublk/sim/seam.hpp>

#include <memory>
#include <stop_token>
#include <system_error>
#include <utility>

namespace ublk::inline v0::sim {

/// As std::thread, in the world of the thread that makes it.
class thread {
public:
    thread() noexcept = default;
    template <class Body>
    explicit thread(Body body) {
        machine& on = *machine::here();
        const int code = on.step("clone");
        if (code == machine::dies_here) {
            on.die_later();
        } else if (code != 0) {
            throw std::system_error{-code, std::generic_category(), "simulated thread"};
        }
        task_ = on.tasks.spawn("thread of the server", std::move(body));
    }
    thread(thread&&) noexcept = default;
    thread& operator=(thread&&) noexcept = default;
    ~thread() { UBLK_ASSERT(task_ == nullptr, "a thread is joined or detached"); }

    void join() {
        while (!task_->ended) {
            (void)scheduler::here()->block(task_->joiners, "the end of a thread");
        }
        task_.reset();
    }
    void detach() { task_.reset(); }
    [[nodiscard]] bool joinable() const noexcept { return task_ != nullptr; }

private:
    std::shared_ptr<task> task_;
};

/// As std::mutex. Needs a world only where somebody else holds it.
class mutex {
public:
    void lock() {
        while (held_) {
            (void)scheduler::here()->block(waiting_, "a mutex");
        }
        held_ = true;
    }
    void unlock() {
        held_ = false;
        if (!waiting_.empty()) {
            scheduler::here()->wake_one(waiting_);
        }
    }
    [[nodiscard]] bool held() const noexcept { return held_; }

private:
    bool held_ = false;
    wait_list waiting_;
};

/// As std::condition_variable_any. Tasks change only where they wait, so nothing is missed between
/// the unlock and the wait.
class condition {
public:
    void notify_all() {
        if (!waiting_.empty()) {
            scheduler::here()->wake(waiting_);
        }
    }

    template <class Lock, class Test>
    bool wait_until(Lock& lock, deadline until, Test test) {
        while (!test()) {
            if (wait(lock, until) == wake_up::late) {
                return test();
            }
        }
        return true;
    }

    template <class Lock, class Test>
    bool wait(Lock& lock, std::stop_token stop, Test test) {
        const std::stop_callback wake{stop, [this] { notify_all(); }};
        while (!stop.stop_requested() && !test()) {
            (void)wait(lock, scheduler::never);
        }
        return test();
    }

private:
    template <class Lock>
    wake_up wait(Lock& lock, deadline until) {
        lock.unlock();
        const wake_up cause = scheduler::here()->block(waiting_, "a condition", until);
        lock.lock();
        return cause;
    }

    wait_list waiting_;
};

}  // namespace ublk::inline v0::sim
