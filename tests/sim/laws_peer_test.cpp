// SPDX-License-Identifier: MIT
#include "../support/remote_disk.hpp"
#include "specimens.hpp"

// A backend that talks to a peer.

UBLK_LAWS_OF(remote_disk, ::testing::Types<composition<::remote_disk, per_cpu, per_wakeup>,
                                           composition<::remote_disk, shared, each>>)
