// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace ublk::test {

/// How often the program has called the global operator new.
inline std::atomic<std::uint64_t> allocations{0};

}  // namespace ublk::test

// Weak, so that several files of a program may include this. Not inlined: GCC would take the malloc
// and the free in them for a mismatch.
[[gnu::weak, gnu::noinline]] void* operator new(std::size_t bytes) {
    ublk::test::allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* const made = std::malloc(bytes == 0 ? 1 : bytes)) {
        return made;
    }
    throw std::bad_alloc{};
}
[[gnu::weak, gnu::noinline]] void operator delete(void* gone) noexcept {
    std::free(gone);
}
[[gnu::weak, gnu::noinline]] void operator delete(void* gone, std::size_t) noexcept {
    std::free(gone);
}

namespace ublk::test {

/// Whether `allocations` counts: false where a program brings another operator new.
[[nodiscard]] inline bool allocations_are_counted() {
    const std::uint64_t before = allocations;
    ::operator delete(::operator new(1));
    return allocations == before + 1;
}

}  // namespace ublk::test
