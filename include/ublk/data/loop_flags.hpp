// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>

namespace ublk::inline v0::detail {

/// What the threads of a device are told to do, in bits: to leave; to answer all requests with EIO
/// and cancel what the backend has in flight; and to say so with each answer (queue_progress).
namespace loop_flags {
inline constexpr unsigned serve = 0;
inline constexpr unsigned leave = 1;
inline constexpr unsigned refuse = 2;
inline constexpr unsigned report = 4;

/// For a thread that nobody tells anything.
inline const std::atomic<unsigned> always_serve{serve};
}  // namespace loop_flags

}  // namespace ublk::inline v0::detail
