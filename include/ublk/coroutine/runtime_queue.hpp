// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/task.hpp>

#include <atomic>
#include <cerrno>
#include <coroutine>
#include <thread>

namespace ublk::inline v0 {

namespace detail {

/// Work that is with a thread of the user's, and how it comes back.
struct errand {
    std::coroutine_handle<> waiting;
    errand* next = nullptr;
    result answer{std::errc::io_error};
};

}  // namespace detail

/// What the tasks of one queue thread have in common. The engine's; backends see `io`.
class io_thread {
public:
    /// `rouse(who)` makes the queue thread look at what came back, from any thread.
    explicit io_thread(void (*rouse)(const void*) noexcept, const void* who) noexcept
        : rouse_{rouse}, who_{who} {}
    io_thread(const io_thread&) = delete;
    io_thread& operator=(const io_thread&) = delete;
    /// Whoever brought the last work back may still be on the way out of here.
    ~io_thread() { await_ringing(); }

    void submit(operation& asked) noexcept {
        asked.next = nullptr;
        *last_ = &asked;
        last_ = &asked.next;
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
    [[nodiscard]] bool ended(operation& op, int said) noexcept {
        --in_flight_;
        if (op.ends_with(said)) {
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
    [[nodiscard]] detail::task_owner* next_ended() noexcept {
        detail::task_owner* const one = ended_;
        if (one != nullptr) {
            ended_ = one->next_ended;
        }
        return one;
    }
    [[nodiscard]] detail::task_owner** ended_list() noexcept { return &ended_; }

    /// Work has left for a user's thread.
    void sent() noexcept { ++in_flight_; }

    /// From any thread: it is done.
    void came_back(detail::errand& done) noexcept {
        ringing_.fetch_add(1, std::memory_order_relaxed);
        detail::errand* head = back_.load(std::memory_order_relaxed);
        do {
            done.next = head;
        } while (!back_.compare_exchange_weak(head, &done, std::memory_order_release,
                                              std::memory_order_relaxed));
        if (head == nullptr) {
            rouse_(who_);
        }
        ringing_.fetch_sub(1, std::memory_order_release);
    }

    /// Nobody looks at what comes back from now on, nor is anybody roused.
    [[gnu::cold]] void close() noexcept {
        detail::errand* head = back_.load(std::memory_order_relaxed);
        do {
            nothing_.next = head;
        } while (!back_.compare_exchange_weak(head, &nothing_, std::memory_order_acq_rel,
                                              std::memory_order_relaxed));
        await_ringing();
    }

    /// All that came back since, in a list.
    [[nodiscard]] detail::errand* take_back() noexcept {
        detail::errand* const all = back_.exchange(nullptr, std::memory_order_acquire);
        for (const detail::errand* each = all; each != nullptr; each = each->next) {
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
    void await_ringing() const noexcept {
        while (ringing_.load(std::memory_order_acquire) != 0) {
            std::this_thread::yield();
        }
    }

    operation* first_ = nullptr;
    operation** last_ = &first_;
    detail::task_owner* ended_ = nullptr;
    unsigned in_flight_ = 0;
    std::atomic<bool> cancelling_ = false;
    std::atomic<detail::errand*> back_ = nullptr;
    std::atomic<unsigned> ringing_ = 0;
    detail::errand nothing_{};
    void (*rouse_)(const void*) noexcept;
    const void* who_;
};

}  // namespace ublk::inline v0
