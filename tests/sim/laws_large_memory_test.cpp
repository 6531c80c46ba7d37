// SPDX-License-Identifier: MIT
#include "specimens.hpp"

UBLK_BACKEND_LAWS(disks::large_memory)
