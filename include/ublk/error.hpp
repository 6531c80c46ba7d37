// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
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

/// Whether io_uring_enter, which answered with that (0 or -errno), is simply called again: after a
/// signal, a passing shortage, or events that want to be reaped first.
[[nodiscard]] constexpr bool enters_again(int code) noexcept {
    return code == 0 || code == -EINTR || code == -EAGAIN || code == -EBUSY;
}

/// What is thrown by the control plane. `what()` names the command, the device, the errno, the
/// likely cause and the remedy; the parts are there one by one for programs.
class error : public std::system_error {
public:
    error(int code, std::string_view command, std::optional<std::uint32_t> device,
          std::string cause, std::string remedy)
        : std::system_error{code < 0 ? -code : code, std::generic_category()},
          text_{sentence(this->code(), command, device, cause, remedy)}, command_{std::string{
                                                                             command}},
          cause_{std::move(cause)}, remedy_{std::move(remedy)}, device_{device} {}

    [[nodiscard]] const char* what() const noexcept override { return text_.what(); }

    /// The control command or step that failed, such as "ADD_DEV" or "open /dev/ublk-control".
    [[nodiscard]] std::string_view command() const noexcept { return command_.what(); }
    [[nodiscard]] std::string_view cause() const noexcept { return cause_.what(); }
    [[nodiscard]] std::string_view remedy() const noexcept { return remedy_.what(); }

    /// What failed and why, in a few words: for a list of what was tried.
    [[nodiscard]] std::string reason() const {
        return std::string{command()} + " failed: " + code().message() +
               (cause().empty() ? "" : ", " + std::string{cause()});
    }

    /// Empty while the kernel has not given an id yet.
    [[nodiscard]] std::optional<std::uint32_t> device() const noexcept { return device_; }

    /// A positive errno; ETIMEDOUT where a deadline passed.
    [[nodiscard]] int errno_value() const noexcept { return code().value(); }

private:
    static std::string sentence(const std::error_code& code, std::string_view command,
                                std::optional<std::uint32_t> device, const std::string& cause,
                                const std::string& remedy) {
        std::string text = "ublk: " + std::string{command};
        if (device) {
            text += " for device " + std::to_string(*device);
        }
        text += " failed: " + code.message() + " (errno " + std::to_string(code.value()) + ").";
        if (!cause.empty()) {
            text += " Likely cause: " + cause + ".";
        }
        if (!remedy.empty()) {
            text += " Remedy: " + remedy + ".";
        }
        return text;
    }

    // std::runtime_error shares its text, so that copying an exception in flight cannot throw.
    std::runtime_error text_;
    std::runtime_error command_;
    std::runtime_error cause_;
    std::runtime_error remedy_;
    std::optional<std::uint32_t> device_;
};

/// The one place that throws.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail(int code, std::string_view command,
                                                        std::optional<std::uint32_t> device,
                                                        std::string cause = {},
                                                        std::string remedy = {}) {
    throw error{code, command, device, std::move(cause), std::move(remedy)};
}

}  // namespace ublk::inline v0
