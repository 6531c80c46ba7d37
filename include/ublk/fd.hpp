// SPDX-License-Identifier: MIT
#pragma once

#include <unistd.h>

#include <utility>

namespace ublk::inline v0 {

/// Sole owner of a file descriptor.
class fd {
public:
    fd() noexcept = default;
    explicit fd(int number) noexcept : number_{number} {}

    fd(fd&& other) noexcept : number_{std::exchange(other.number_, -1)} {}
    fd& operator=(fd&& other) noexcept {
        fd{std::move(other)}.swap(*this);
        return *this;
    }
    ~fd() {
        if (number_ >= 0) {
            ::close(number_);  // EINTR still closes on Linux: a retry could close somebody else's
        }
    }

    [[nodiscard]] int get() const noexcept { return number_; }
    [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }
    /// From now on the caller owns it.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }
    void swap(fd& other) noexcept { std::swap(number_, other.number_); }

private:
    int number_ = -1;
};

}  // namespace ublk::inline v0
