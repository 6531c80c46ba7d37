// SPDX-License-Identifier: MIT
#include "../support/remote_disk.hpp"
#include "specimens.hpp"

#include <memory>

// A backend that talks to a peer.

template <>
struct ublk::sim::specimen<remote_disk> {
    static std::shared_ptr<remote_disk> make() {
        return std::make_shared<remote_disk>(std::make_shared<remote_server>());
    }
    static std::shared_ptr<remote_disk> revive(const std::shared_ptr<remote_disk>& dead) {
        return std::make_shared<remote_disk>(dead->server());
    }
    static constexpr bool remembers = true;
};

UBLK_LAWS_OF(remote_disk, ::testing::Types<composition<::remote_disk, per_cpu, per_wakeup>,
                                           composition<::remote_disk, shared, each>>)
