// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace ublk::inline v0 {

/// What the control plane throws. `what()` is one text of command, device, errno, likely cause and
/// remedy; programs have each of them by a function.
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

    /// Command, errno and cause on one line: for a list of what was tried.
    [[nodiscard]] std::string reason() const {
        return std::string{command()} + " failed: " + code().message() +
               (cause().empty() ? "" : ", " + std::string{cause()});
    }

    /// N of /dev/ublkbN; empty where the kernel has not given an id yet.
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
