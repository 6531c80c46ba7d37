// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace ublk::inline v0 {

/// What a backend says of one request: all of it is done, or one errno. There is no third answer,
/// since the driver turns a short write into silent success (ublk_drv, __ublk_complete_rq). A
/// value; nothing here throws or allocates.
class result {
public:
    /// The whole request is done, every byte of it.
    constexpr result() noexcept = default;

    /// The request failed: `return std::errc::no_space_on_device;`.
    constexpr result(std::errc code) noexcept : result{failure(static_cast<int>(code))} {}

    /// The request failed with an errno, given as `EIO` or `-EIO`.
    ///
    /// The client sees that errno as far as the block layer has a status for it, else EIO. Codes
    /// that would make the client's kernel retry or misread (EAGAIN, EINTR, EREMCHG) and numbers
    /// that are no errno become EIO.
    [[nodiscard]] static constexpr result failure(int code) noexcept {
        const std::int64_t positive = code < 0 ? -std::int64_t{code} : code;
        result failed;
        failed.errno_ = speakable(positive) ? static_cast<int>(positive) : EIO;
        return failed;
    }

    /// What the last failed system call of this thread left in `errno`.
    [[nodiscard]] static result from_errno() noexcept { return failure(errno); }

    [[nodiscard]] constexpr bool ok() const noexcept { return errno_ == 0; }

    /// 0, or a positive errno.
    [[nodiscard]] constexpr int error() const noexcept { return errno_; }

    friend constexpr bool operator==(result, result) noexcept = default;

private:
    static constexpr int errno_max = 4095;  // the kernel's MAX_ERRNO

    static constexpr bool speakable(std::int64_t code) noexcept {
        return code > 0 && code <= errno_max && code != EAGAIN && code != EINTR && code != EREMCHG;
    }

    int errno_ = 0;
};

/// `return ublk::ok;`: the whole request is done.
inline constexpr result ok{};

}  // namespace ublk::inline v0
