// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/uapi.hpp>

#include <cstdint>
#include <cstring>
#include <string>

namespace ublk::inline v0::sim {

/// An operation as failures name it.
[[nodiscard]] constexpr const char* name_of(uapi::op op) noexcept {
    switch (op) {
    case uapi::op::read:
        return "read";
    case uapi::op::write:
        return "write";
    case uapi::op::flush:
        return "flush";
    case uapi::op::discard:
        return "discard";
    case uapi::op::write_zeroes:
        return "write zeroes";
    default:
        return "operation";
    }
}

/// "read of 4096 bytes at 8192"; a flush has no place.
[[nodiscard]] inline std::string in_words(uapi::op op, std::uint64_t offset, std::uint64_t bytes,
                                          bool fua = false) {
    std::string text = name_of(op);
    if (op != uapi::op::flush) {
        text += " of " + std::to_string(bytes) + " bytes at " + std::to_string(offset);
    }
    return text + (fua ? " with FUA" : "");
}

/// "EIO (errno 5)", for a positive errno.
[[nodiscard]] inline std::string errno_in_words(int code) {
    const char* const name = ::strerrorname_np(code);
    return (name == nullptr ? std::string{"an unknown error"} : std::string{name}) + " (errno " +
           std::to_string(code) + ")";
}

}  // namespace ublk::inline v0::sim
