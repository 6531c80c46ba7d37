// SPDX-License-Identifier: MIT
// expect: use of deleted function 'constexpr ublk::v0::detail::promise<sink>::promise(const
//         ublk::v0::detail::promise<sink>&)'
// expect: call to implicitly-deleted copy constructor of 'ublk::detail::promise<sink>'

#include "disk.hpp"

#include <utility>

struct sink {
    void complete(std::uint16_t, const ublk::request&, ublk::result) noexcept {}
};

void pass_on(ublk::detail::promise<sink> duty) {
#ifdef UBLK_REJECT
    ublk::detail::promise<sink> other{duty};
#else
    ublk::detail::promise<sink> other{std::move(duty)};
#endif
    std::move(other).fulfil(ublk::ok);
}
