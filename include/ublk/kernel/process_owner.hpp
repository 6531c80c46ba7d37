// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/kernel/host.hpp>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ublk::inline v0::detail {

/// Which process has something of the kernel's or has started threads. A child that is forked later
/// has neither, though it has a copy of what describes them. Any thread.
class process_owner {
public:
    /// Nobody's as yet.
    process_owner() noexcept = default;
    /// The calling process's.
    template <host Host>
    explicit process_owner(const Host& h) noexcept : number_{h.this_process()} {}

    void claim(std::uint64_t process) noexcept { number_ = process; }
    void release() noexcept { number_ = 0; }

    /// Whether it is another process's.
    template <host Host>
    [[nodiscard]] bool elsewhere(const Host& h) const noexcept {
        const std::uint64_t owner = number_;
        return owner != 0 && owner != h.this_process();
    }

    /// Throws: `error` with EPERM where it is another process's.
    template <host Host>
    void demand(const Host& h, std::string_view command,
                std::optional<std::uint32_t> device = {}) const {
        if (elsewhere(h)) {
            refuse(command, device);
        }
    }

private:
    [[noreturn, gnu::cold]] static void refuse(std::string_view command,
                                               std::optional<std::uint32_t> device) {
        fail(EPERM, command, device,
             "this process was forked from the one that started it, whose threads it does not have",
             "call it there; to serve in a child (as after daemon(3)), fork before start");
    }

    std::atomic<std::uint64_t> number_ = 0;
};

}  // namespace ublk::inline v0::detail
