// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <compare>
#include <concepts>
#include <cstdint>

namespace ublk::inline v0 {

namespace detail {

/// `milliseconds::max()` for more than a century. What is compared first cannot overflow when it is
/// converted then.
template <class Rep, class Period>
[[nodiscard]] constexpr std::chrono::milliseconds
whole_milliseconds(std::chrono::duration<Rep, Period> given) noexcept {
    constexpr std::chrono::hours century{100 * 365 * 24};
    constexpr auto seconds = static_cast<long double>(std::chrono::seconds{century}.count());
    const auto length = static_cast<long double>(given.count()) *
                        static_cast<long double>(Period::num) /
                        static_cast<long double>(Period::den);
    if (length > seconds) {
        return std::chrono::milliseconds::max();
    }
    if (!(length > -seconds)) {  // no number is as little a limit as these
        return -std::chrono::milliseconds{century};
    }
    return std::chrono::ceil<std::chrono::milliseconds>(given);
}

}  // namespace detail

/// How long something may take, in milliseconds, rounded up: what is positive does not become zero.
/// Longer than a century means no limit.
class time_limit {
public:
    template <class Rep, class Period>
    constexpr time_limit(std::chrono::duration<Rep, Period> given) noexcept
        : limit_{detail::whole_milliseconds(given)} {}

    [[nodiscard]] static constexpr time_limit none() noexcept {
        return std::chrono::milliseconds::max();
    }

    [[nodiscard]] constexpr bool unlimited() const noexcept {
        return limit_ == std::chrono::milliseconds::max();
    }
    [[nodiscard]] constexpr bool positive() const noexcept { return limit_.count() > 0; }

    /// `std::chrono::milliseconds::max()` where there is no limit.
    [[nodiscard]] constexpr operator std::chrono::milliseconds() const noexcept { return limit_; }

    /// The time when it will have passed; `max()` where it never does.
    template <class Clock, class Duration>
    [[nodiscard]] constexpr std::chrono::time_point<Clock, Duration>
    after(std::chrono::time_point<Clock, Duration> now) const noexcept {
        using time = std::chrono::time_point<Clock, Duration>;
        // A limit of a century fits any clock, but not on top of any time.
        return unlimited() || (positive() && time::max() - limit_ < now) ? time::max()
                                                                         : now + limit_;
    }

    friend constexpr auto operator<=>(const time_limit&, const time_limit&) noexcept = default;
    friend constexpr bool operator==(const time_limit&, const time_limit&) noexcept = default;

private:
    std::chrono::milliseconds limit_;
};

/// A deadline that never passes: what waits by it may wait for ever.
inline constexpr time_limit no_deadline = time_limit::none();

}  // namespace ublk::inline v0
