// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>

#include <cerrno>
#include <optional>
#include <string>

namespace ublk::inline v0::detail {

/// Throws what it means that io_uring_setup was refused.
[[noreturn, gnu::cold]] inline void refuse_ring(int code, unsigned entries) {
    const std::string size = std::to_string(entries) + " entries";
    switch (-code) {
    case EPERM:
    case EACCES:
        fail(code, "io_uring_setup", std::nullopt, "io_uring is switched off for this user",
             "check `sysctl kernel.io_uring_disabled` and the sandbox's seccomp filter");
    case ENOSYS:
        fail(code, "io_uring_setup", std::nullopt, "the kernel or its sandbox has no io_uring",
             "use a kernel with CONFIG_IO_URING, outside of a filter that hides it");
    case ENOMEM:
        fail(code, "io_uring_setup", std::nullopt, "no memory for a ring of " + size,
             "ask for less depth or fewer queues, or raise the limit on locked memory");
    case EMFILE:
    case ENFILE:
        fail(code, "io_uring_setup", std::nullopt, "no file descriptor is left",
             "raise `ulimit -n`");
    default:
        fail(code, "io_uring_setup", std::nullopt, "a ring of " + size + " was refused");
    }
}

}  // namespace ublk::inline v0::detail
