// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/coroutine/task_owner.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/result.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <coroutine>
#include <thread>

namespace ublk::inline v0::detail {

/// Work that is with a thread of the user's, and how it comes back.
struct offloaded {
    std::coroutine_handle<> waiting;
    offloaded* next = nullptr;
    result answer{std::errc::io_error};
};

/// What the tasks of one queue thread have in common. The engine's; backends see `io`.
class runtime_queue {
public:
    /// `wakeup(target)` makes the queue thread look at what came back, from any thread.
    explicit runtime_queue(void (*wakeup)(const void*) noexcept, const void* target) noexcept
        : wakeup_{wakeup}, target_{target} {}
    runtime_queue(const runtime_queue&) = delete;
    runtime_queue& operator=(const runtime_queue&) = delete;
    /// Whoever brought the last work back may still be on the way out of here.
    ~runtime_queue() { await_waking(); }

    using time_point = std::chrono::steady_clock::time_point;

    /// Whose time it is; the machine's where nobody says.
    void use_clock(time_point (*look)(const void*) noexcept, const void* clock) noexcept {
        now_ = look;
        clock_ = clock;
    }
    [[nodiscard]] time_point now() const noexcept { return now_(clock_); }

    void submit(operation& requested) noexcept {
        requested.next = nullptr;
        *last_ = &requested;
        last_ = &requested.next;
    }

    /// The next operation that is to go to the kernel, or null.
    [[nodiscard]] operation* next_submission() noexcept {
        operation* const first = first_;
        if (first != nullptr) {
            first_ = first->next;
            if (first_ == nullptr) {
                last_ = &first_;
            }
            ++in_flight_;
        }
        return first;
    }

    /// The kernel has answered one. False where `op` is to be submitted once more.
    [[nodiscard]] bool ended(operation& op, int outcome) noexcept {
        --in_flight_;
        if (op.ends_with(outcome)) {
            return true;
        }
        if (cancelling()) {
            op.answer = -ECANCELED;
            return true;
        }
        submit(op);
        return false;
    }

    /// Takes one of the tags whose task has ended, or null.
    [[nodiscard]] task_owner* next_ended() noexcept {
        task_owner* const one = ended_;
        if (one != nullptr) {
            ended_ = one->next_ended;
        }
        return one;
    }
    [[nodiscard]] task_owner** ended_list() noexcept { return &ended_; }

    /// Work has left for a user's thread.
    void sent() noexcept { ++in_flight_; }

    /// From any thread: it is done.
    void completed(offloaded& done) noexcept {
        waking_.fetch_add(1, std::memory_order_relaxed);
        offloaded* head = completed_.load(std::memory_order_relaxed);
        do {
            done.next = head;
        } while (!completed_.compare_exchange_weak(head, &done, std::memory_order_release,
                                                   std::memory_order_relaxed));
        if (head == nullptr) {
            wakeup_(target_);
        }
        waking_.fetch_sub(1, std::memory_order_release);
    }

    /// From now on nobody looks at what comes back, and no thread is woken.
    [[gnu::cold]] void close() noexcept {
        offloaded* head = completed_.load(std::memory_order_relaxed);
        do {
            nothing_.next = head;
        } while (!completed_.compare_exchange_weak(head, &nothing_, std::memory_order_acq_rel,
                                                   std::memory_order_relaxed));
        await_waking();
    }

    /// All that came back since, in a list.
    [[nodiscard]] offloaded* take_completed() noexcept {
        offloaded* const all = completed_.exchange(nullptr, std::memory_order_acquire);
        for (const offloaded* each = all; each != nullptr; each = each->next) {
            --in_flight_;
        }
        return all;
    }

    /// Operations in the kernel, and work at users' threads.
    [[nodiscard]] unsigned in_flight() const noexcept { return in_flight_; }

    void cancel() noexcept { cancelling_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] bool cancelling() const noexcept {
        return cancelling_.load(std::memory_order_relaxed);
    }

private:
    void await_waking() const noexcept {
        while (waking_.load(std::memory_order_acquire) != 0) {
            std::this_thread::yield();
        }
    }

    operation* first_ = nullptr;
    operation** last_ = &first_;
    task_owner* ended_ = nullptr;
    unsigned in_flight_ = 0;
    std::atomic<bool> cancelling_ = false;
    std::atomic<offloaded*> completed_ = nullptr;
    std::atomic<unsigned> waking_ = 0;
    offloaded nothing_{};
    time_point (*now_)(const void*) noexcept = [](const void*) noexcept {
        return std::chrono::steady_clock::now();
    };
    const void* clock_ = nullptr;
    void (*wakeup_)(const void*) noexcept;
    const void* target_;
};

}  // namespace ublk::inline v0::detail
