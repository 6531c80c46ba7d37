// SPDX-License-Identifier: MIT
#include "specimens.hpp"

UBLK_BACKEND_LAWS(memory)

using by_thread = ::testing::Types<
    ublk::sim::composition<memory, ublk::shared, ublk::per_wakeup, ublk::data_path::thread_copy>>;

UBLK_LAWS_OF(by_thread, ::by_thread)
