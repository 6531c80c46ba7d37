// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace ublk::inline v0::sim {

/// An array of so many T, all of them zero bytes. Unlike a std::vector it does not touch its
/// memory: a disk of 64 MiB costs nothing until it is used, and worlds are made by the thousand.
template <class T>
class zeroed {
    static_assert(std::is_trivial_v<T>, "calloc makes no objects with a constructor");

public:
    explicit zeroed(std::uint64_t count)
        : items_{static_cast<T*>(std::calloc(count == 0 ? 1 : count, sizeof(T)))} {
        if (!items_) {
            throw std::bad_alloc{};
        }
    }

    [[nodiscard]] T* data() const noexcept { return items_.get(); }
    [[nodiscard]] T& operator[](std::uint64_t index) const noexcept { return items_.get()[index]; }

private:
    struct release {
        void operator()(T* items) const noexcept { std::free(items); }
    };
    std::unique_ptr<T, release> items_;
};

}  // namespace ublk::inline v0::sim
