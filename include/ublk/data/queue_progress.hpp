// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/request_failure.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/error.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>
#include <ublk/uapi.hpp>

#include <atomic>
#include <cstdint>

namespace ublk::inline v0::detail {

/// What one queue thread has done, for whoever waits for it to end. That thread writes, any thread
/// reads.
class alignas(64) queue_progress {
public:
    /// The backend has answered a request.
    void note_answer() noexcept { add(answers_, 1); }

    /// A request has got its answer; `by_force` where the device ends so.
    [[gnu::cold, gnu::noinline]] void note_end(const request& r, result answer,
                                               bool by_force) noexcept {
        note_answer();
        if (by_force && !answer.ok() && r.op() == uapi::op::write) {
            add(failed_bytes_, r.length());
        }
    }

    /// `to.note(request_failure)` is told why requests fail, from now on.
    template <class Report>
    void report_to(Report& to) noexcept {
        tell_ = [](void* report, const request_failure& failure) noexcept {
            static_cast<Report*>(report)->note(failure);
        };
        to_ = &to;
    }
    void note_failure(const request_failure& failure) noexcept { tell_(to_, failure); }

    /// Grows with every answer, also more than once. Backends that answer at once are counted only
    /// while the thread is told to (`loop_flags::report`).
    [[nodiscard]] std::uint64_t answers() const noexcept {
        return answers_.load(std::memory_order_relaxed);
    }
    /// Of writes.
    [[nodiscard]] std::uint64_t failed_bytes() const noexcept {
        return failed_bytes_.load(std::memory_order_relaxed);
    }

private:
    // With one writer there is nothing to lock the bus for.
    static void add(std::atomic<std::uint64_t>& to, std::uint64_t some) noexcept {
        to.store(to.load(std::memory_order_relaxed) + some, std::memory_order_relaxed);
    }

    std::atomic<std::uint64_t> answers_ = 0;
    std::atomic<std::uint64_t> failed_bytes_ = 0;
    void (*tell_)(void*, const request_failure&) noexcept = [](void*,
                                                               const request_failure&) noexcept {};
    void* to_ = nullptr;
};

/// Over all threads of a device.
[[nodiscard]] inline std::uint64_t sum(const fixed_array<queue_progress>& threads,
                                       std::uint64_t (queue_progress::*of)()
                                           const noexcept) noexcept {
    std::uint64_t all = 0;
    for (const queue_progress& each : threads) {
        all += (each.*of)();
    }
    return all;
}

/// For threads that nobody waits for.
[[nodiscard]] inline queue_progress& unwatched_progress() noexcept {
    static queue_progress all;
    return all;
}

}  // namespace ublk::inline v0::detail
