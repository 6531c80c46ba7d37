// SPDX-License-Identifier: MIT
// expect: passing 'ublk::v0::detail::promise<sink>' as 'this' argument discards qualifiers
// expect: 'this' argument to member function 'fulfil' is an lvalue

#include "disk.hpp"

#include <utility>

struct sink {
    void complete(std::uint16_t, const ublk::request&, ublk::result) noexcept {}
};

void answer(ublk::detail::promise<sink> duty) {
#ifdef UBLK_REJECT
    duty.fulfil(ublk::ok);  // would be there to be fulfilled again
#else
    std::move(duty).fulfil(ublk::ok);
#endif
}
