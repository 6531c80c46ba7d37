// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/loop_timing.hpp>

#include <chrono>

namespace ublk::inline v0::detail {

/// The completions that are queued and not handed over: when `Policy` has them go.
template <batch_policy Policy>
class batch_counter {
public:
    /// One more is queued. Whether to hand over now.
    template <class Port>
    [[nodiscard, gnu::always_inline]] bool another(const Port& port,
                                                   const loop_timing& limits) noexcept {
        ++count_;
        if constexpr (batch_policy_traits<Policy>::timed) {
            const auto now = port.now();
            first_ = count_ == 1 ? now : first_;
            if (now - first_ >= limits.batch_delay) {
                return true;
            }
        }
        return Policy::due(count_);
    }

    void gone() noexcept { count_ = 0; }

private:
    unsigned count_ = 0;
    std::chrono::steady_clock::time_point first_{};
};

/// Where that is for the wait to do, nothing need be counted.
template <batch_policy Policy>
    requires(batch_policy_traits<Policy>::never && !batch_policy_traits<Policy>::timed)
class batch_counter<Policy> {
public:
    template <class Port>
    [[nodiscard]] static constexpr bool another(const Port&, const loop_timing&) noexcept {
        return false;
    }
    static constexpr void gone() noexcept {}
};

}  // namespace ublk::inline v0::detail
