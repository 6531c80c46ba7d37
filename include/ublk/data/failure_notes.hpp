// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue_progress.hpp>
#include <ublk/data/request_failure.hpp>
#include <ublk/request.hpp>
#include <ublk/task.hpp>

#include <exception>

namespace ublk::inline v0::detail {

/// For `dispatch`: the backend has thrown.
struct note_thrown {
    queue_progress& to;

    [[gnu::cold, gnu::noinline]] void operator()(const request& r) const noexcept {
        request_failure trouble{event::kind::exception, r};
        trouble.say(std::current_exception());
        to.note_trouble(trouble);
    }
};

/// Tells of what a request's coroutines met with, and forgets it.
[[gnu::cold, gnu::noinline]] inline void note_failures(queue_progress& to, const request& r,
                                                       frame_memory& frames) noexcept {
    using kind = event::kind;
    request_failure trouble{frames.wanted() != 0 ? kind::task_memory
                            : frames.never_ran() ? kind::never_ran
                                                 : kind::exception,
                            r};
    trouble.bytes = frames.wanted();
    if (trouble.why == kind::exception) {
        trouble.say(frames.thrown());
    }
    frames.forget_troubles();
    to.note_trouble(trouble);
}

}  // namespace ublk::inline v0::detail
