// SPDX-License-Identifier: MIT
#include "specimens.hpp"

// A name with `::`, and with a comma.
UBLK_BACKEND_LAWS(disks::write_protected<256u << 10, 4096>)
