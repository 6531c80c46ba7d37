// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/config.hpp>
#include <ublk/request.hpp>
#include <ublk/result.hpp>

#include <cstdint>
#include <utility>

namespace ublk::inline v0::detail {

/// What the driver is told of a request. Only ever the full length or an errno: it completes the
/// whole of a request that was answered with less (kernel 7.3, __ublk_complete_rq).
[[nodiscard]] inline int driver_answer(const request& r, result answer) noexcept {
    if (!answer.ok()) [[unlikely]] {
        return -answer.error();
    }
    return r.carries_data() ? static_cast<int>(r.length()) : 0;
}

/// The duty to complete one tag exactly once.
///
/// A lost completion makes `del_gendisk` wait for ever with the driver's global mutex held, which
/// blocks every ublk command on the host. So the duty is a move-only object: fulfilling it consumes
/// it (only an rvalue can be fulfilled, a second time asserts), and dropping it completes with EIO.
/// `Sink::complete(place, request, result)` hands the answer over; `place` is the sink's own word
/// for where the request belongs.
template <class Sink>
class [[nodiscard]] promise {
public:
    promise(Sink& sink, std::uint16_t queue_index, const request& requested) noexcept
        : sink_{&sink}, requested_{requested}, place_{queue_index} {}

    promise(promise&& other) noexcept
        : sink_{std::exchange(other.sink_, nullptr)},
          requested_{other.requested_}, place_{other.place_} {}
    promise& operator=(promise&&) = delete;

    [[gnu::always_inline]] ~promise() {
        if (sink_ != nullptr) [[unlikely]] {
            sink_->complete(place_, requested_, result{std::errc::io_error});
        }
    }

    [[gnu::always_inline]] void fulfil(result answer) && noexcept {
        UBLK_ASSERT(sink_ != nullptr, "a tag is completed exactly once");
        std::exchange(sink_, nullptr)->complete(place_, requested_, answer);
    }

private:
    Sink* sink_;
    request requested_;
    std::uint16_t place_;
};

}  // namespace ublk::inline v0::detail
