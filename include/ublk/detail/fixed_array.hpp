// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <utility>

namespace ublk::inline v0::detail {

/// As many elements as were asked for at first, which stay where they are: T need not be movable.
/// Compilers are through with it long before they are with a standard container, of which they make
/// much more than is used here.
template <class T>
class fixed_array {
public:
    fixed_array() noexcept = default;
    explicit fixed_array(std::size_t count) : first_{new T[count]{}}, size_{count} {}
    fixed_array(fixed_array&& other) noexcept
        : first_{std::exchange(other.first_, nullptr)}, size_{std::exchange(other.size_, 0)} {}
    fixed_array& operator=(fixed_array&& other) noexcept {
        std::swap(first_, other.first_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~fixed_array() { delete[] first_; }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

    [[nodiscard]] T* begin() noexcept { return first_; }
    [[nodiscard]] T* end() noexcept { return first_ + size_; }
    [[nodiscard]] const T* begin() const noexcept { return first_; }
    [[nodiscard]] const T* end() const noexcept { return first_ + size_; }

    [[nodiscard]] T& operator[](std::size_t i) noexcept { return first_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return first_[i]; }

private:
    T* first_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace ublk::inline v0::detail
