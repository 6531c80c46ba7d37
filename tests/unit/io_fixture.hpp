// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/io.hpp>
#include <ublk/task.hpp>

#include <atomic>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace ublk_test {

/// One tag's `io` without a server: what its tasks submit waits here until a test answers it.
struct io_fixture {
    explicit io_fixture(std::size_t bytes = 4096)
        : memory(bytes / sizeof(std::max_align_t)), with{home, std::as_writable_bytes(
                                                                   std::span{memory})} {}

    /// Begins a task as the engine does.
    void start(ublk::task& begun) { begun.start(with); }

    /// Takes what was submitted since.
    std::vector<ublk::detail::operation*> submitted() {
        std::vector<ublk::detail::operation*> all;
        while (ublk::detail::operation* const next = home.next_submission()) {
            all.push_back(next);
        }
        return all;
    }

    /// The only one that was submitted.
    ublk::detail::operation& the_operation() {
        const std::vector<ublk::detail::operation*> all = submitted();
        UBLK_ASSERT(all.size() == 1, "the test expects one operation");
        return *all.front();
    }

    /// The kernel answers. False where the rest is submitted.
    bool answer(ublk::detail::operation& requested, int outcome) {
        const bool ended = home.ended(requested, outcome);
        if (ended) {
            requested.waiting.resume();
        }
        return ended;
    }

    /// Goes on with what came back from other threads. Returns how many did.
    std::size_t resume_returned() {
        std::size_t count = 0;
        ublk::detail::offloaded* back = home.take_completed();
        for (; back != nullptr; ++count) {
            std::exchange(back, back->next)->waiting.resume();
        }
        return count;
    }

    /// Tasks begun by `start` that have ended since.
    std::size_t heard_of() {
        std::size_t count = 0;
        while (home.next_ended() != nullptr) {
            ++count;
        }
        return count;
    }

    [[nodiscard]] std::size_t frames() { return with.frames().used(); }

    std::atomic<unsigned> roused{0};
    ublk::detail::runtime_queue home{[](const void* who) noexcept {
                                         auto* const times =
                                             static_cast<const std::atomic<unsigned>*>(who);
                                         ++*const_cast<std::atomic<unsigned>*>(times);
                                     },
                                     &roused};
    std::vector<std::max_align_t> memory;
    ublk::io with;
};

}  // namespace ublk_test
