// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/error.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ublk::inline v0::detail {

/// The places in a backend's own memory that requests are copied from and to, of one thread's tags.
class get_data_state {
public:
    /// The tags of the thread's next queue. Allocates.
    void add_queue(std::size_t tags) { lengths_.resize(lengths_.size() + tags); }

    /// Where a write's bytes belong; null where the backend does not say. `index` is the tag's
    /// among all of the thread.
    template <class Backend>
    [[nodiscard]] const std::byte* for_write(Backend& backend, const request& r,
                                             std::uint16_t index) noexcept {
        const std::span<std::byte> memory = backend.memory_for(r);
        lengths_[index] = r.length();
        return memory.size() == r.length() ? memory.data() : nullptr;
    }

    /// What to say of a request whose bytes are in place, if they are: a kernel that meets a fault
    /// in the middle of a write shortens the descriptor, and would complete the whole request all
    /// the same (ublk_start_io).
    [[nodiscard]] result arrived(const request& r, std::uint16_t index) const noexcept {
        const bool cut = r.op() == uapi::op::write && lengths_[index] != r.length();
        return cut ? result{std::errc::io_error} : ok;
    }

    /// The place that goes with a commit. A read's must name one even if it fails.
    template <class Backend>
    [[nodiscard]] std::uint64_t for_read(Backend& backend, const request& r,
                                         result& answer) const noexcept {
        if (r.op() != uapi::op::read) {
            return 0;
        }
        if (answer.ok()) [[likely]] {
            const std::span<std::byte> memory = backend.memory_for(r);
            if (memory.size() == r.length()) [[likely]] {
                return reinterpret_cast<std::uintptr_t>(memory.data());
            }
            answer = std::errc::io_error;
        }
        return reinterpret_cast<std::uintptr_t>(this);
    }

private:
    std::vector<std::uint64_t> lengths_;  ///< bytes, one a tag
};

/// On data paths that copy elsewhere.
struct no_get_data_state {
    static constexpr void add_queue(std::size_t) noexcept {}
    [[nodiscard]] static result arrived(const request&, std::uint16_t) noexcept { return ok; }
};

}  // namespace ublk::inline v0::detail
