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
        request_failure failure{event::kind::exception, r};
        failure.say(std::current_exception());
        to.note_failure(failure);
    }
};

/// Tells of what a request's coroutines met with, and forgets it.
[[gnu::cold, gnu::noinline]] inline void note_failures(queue_progress& to, const request& r,
                                                       frame_memory& frames) noexcept {
    using kind = event::kind;
    request_failure failure{frames.wanted() != 0 ? kind::task_memory
                            : frames.never_ran() ? kind::never_ran
                                                 : kind::exception,
                            r};
    failure.bytes = frames.wanted();
    if (failure.why == kind::exception) {
        failure.say(frames.thrown());
    }
    frames.forget_failures();
    to.note_failure(failure);
}

}  // namespace ublk::inline v0::detail
