// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

namespace ublk::inline v0::detail {

/// Half of io_uring's largest completion queue: a thread has only so much room for events.
inline constexpr unsigned tags_a_thread_max = 32768;

/// Throws: `error` where one thread would have too many tags.
inline void check_load(const thread_load& load, std::string_view command, std::uint32_t id) {
    if (load.tags > tags_a_thread_max) {
        fail(EINVAL, command, id,
             "one thread would serve " + std::to_string(load.tags) + " requests at once",
             "ask for less depth, fewer queues or more threads, so that it is 32768 at most");
    }
}

}  // namespace ublk::inline v0::detail
