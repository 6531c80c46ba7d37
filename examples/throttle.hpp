// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backends/filter.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

/// What a throttled disk may do in a second; 0: no limit.
struct throttle_limits {
    std::uint64_t bytes = 0;
    std::uint64_t requests = 0;
};

/// Another disk, at a limited rate. Each request takes its time out of the future, and begins when
/// the time of those before it is over.
template <class Disk>
class throttle : public ublk::backends::filter<throttle<Disk>, Disk> {
    using base = ublk::backends::filter<throttle, Disk>;

public:
    throttle(Disk below, throttle_limits limits) : base{std::move(below)}, limits_{limits} {}

    template <class Op, class... P>
    ublk::task later(ublk::io& io, const ublk::request& r, P... payload) {
        const std::chrono::nanoseconds wait = book(io.now().time_since_epoch(), r);
        if (wait.count() > 0) {
            const int slept = co_await io.sleep(wait);
            if (slept < 0) {  // the device is being stopped by force
                co_return ublk::result::failure(slept);
            }
        }
        ublk::task below = this->template pass<Op>(io, r, payload...);
        const ublk::result answer = co_await std::move(below);
        co_return answer;
    }

private:
    [[nodiscard]] std::int64_t cost(const ublk::request& r) const noexcept {
        constexpr double second = 1e9;
        double time = 0;
        if (limits_.bytes != 0 && r.carries_data()) {
            time += second * static_cast<double>(r.length()) / static_cast<double>(limits_.bytes);
        }
        if (limits_.requests != 0) {
            time += second / static_cast<double>(limits_.requests);
        }
        return static_cast<std::int64_t>(time);
    }

    /// How long the request waits.
    [[nodiscard]] std::chrono::nanoseconds book(std::chrono::nanoseconds now,
                                                const ublk::request& r) noexcept {
        const std::int64_t time = cost(r);
        std::int64_t free = free_->load();
        std::int64_t begin = 0;
        do {  // queue threads book at the same time
            begin = std::max(free, now.count());
        } while (!free_->compare_exchange_weak(free, begin + time));
        return std::chrono::nanoseconds{begin - now.count()};
    }

    throttle_limits limits_;
    std::unique_ptr<std::atomic<std::int64_t>> free_ =  // when all that is booked is over
        std::make_unique<std::atomic<std::int64_t>>(0);
};
