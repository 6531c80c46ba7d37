// SPDX-License-Identifier: MIT
#pragma once

// CMake reads the version here; nothing else states it.
#define UBLK_VERSION_MAJOR 0
#define UBLK_VERSION_MINOR 1
#define UBLK_VERSION_PATCH 0

// What cannot compile says so in one line; ublk.hpp then leaves out the rest.
#if !defined(__cpp_concepts) || __cpp_concepts < 201907L || !defined(__cpp_impl_coroutine)
#error "ublk: needs C++20: compile with -std=c++20, by g++ 12, clang 14 or newer"
#elif !defined(__cpp_exceptions)
#error "ublk: needs exceptions, by which start and stop fail: compile without -fno-exceptions"
#elif !defined(__LP64__)
#error "ublk: needs a 64-bit target, since requests carry 64-bit addresses: compile without -m32"
#else
#define UBLK_COMPILES 1
#endif

#ifdef UBLK_COMPILES
#include <cstdio>
#include <cstdlib>

namespace ublk::inline v0::detail {

/// Ends the process with the broken promise in words: going on would risk the user's data.
[[noreturn, gnu::cold, gnu::noinline]] inline void
assertion_failed(const char* condition, const char* meaning, const char* file, int line) noexcept {
    std::fprintf(stderr, "ublk: assertion failed: %s (%s) at %s:%d\n", meaning, condition, file,
                 line);
    std::abort();
}

}  // namespace ublk::inline v0::detail

/// Checks a programmer's promise, in release builds too: a block device that goes on after a broken
/// invariant destroys data. Define it before the first include to handle failures differently (a
/// test may throw).
#ifndef UBLK_ASSERT
#define UBLK_ASSERT(condition, meaning)                                                            \
    do {                                                                                           \
        if (!(condition)) [[unlikely]] {                                                           \
            ::ublk::detail::assertion_failed(#condition, meaning, __FILE__, __LINE__);             \
        }                                                                                          \
    } while (false)
#endif
#endif  // UBLK_COMPILES
