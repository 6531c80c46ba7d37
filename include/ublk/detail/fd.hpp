// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace ublk::inline v0 {

namespace detail {

/// The same file by a number above those of the standard streams, with FD_CLOEXEC. Where a program
/// was started with one of them closed, a file that is opened gets its number, and whatever is
/// printed then lands in that file. Closes `fresh` where it moves it; -1 with errno where no number
/// is left.
[[nodiscard]] inline int above_standard_streams(int fresh) noexcept {
    if (fresh < 0 || fresh > STDERR_FILENO) {
        return fresh;
    }
    const int moved = ::fcntl(fresh, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int code = errno;
    ::close(fresh);
    errno = code;
    return moved;
}

}  // namespace detail

/// Sole owner of a file descriptor, which is never that of a standard stream.
class fd {
public:
    fd() noexcept = default;

    /// Takes what a system call has just returned, and moves it out of the way of the standard
    /// streams. Empty, with errno, where it is -1 or no number is left.
    explicit fd(int fresh) noexcept : number_{detail::above_standard_streams(fresh)} {}

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
