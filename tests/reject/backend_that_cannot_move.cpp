// SPDX-License-Identifier: MIT
// expect: ublk: this backend cannot be moved: make it in place, device<B> disk{std::in_place,
//         ublk::options{}, arguments...}, or hand over a std::shared_ptr<B>

#include "disk.hpp"

#include <memory>

struct backend : disk {
    backend() = default;
    backend(const backend&) = delete;
};

void make() {
#ifdef UBLK_REJECT
    ublk::device<backend> some{backend{}};
#else
    ublk::device<backend> some{std::make_shared<backend>()};
#endif
}
