// SPDX-License-Identifier: MIT
#include "specimens.hpp"

#include <ublk/policy/driver_batches.hpp>

using ublk::driver_batches;
using ublk::each;
using ublk::per_cpu;
using ublk::per_wakeup;
using ublk::shared;
using up_to_3 = ublk::up_to<3>;

UBLK_QUEUE_POLICY_LAWS(per_cpu)
UBLK_QUEUE_POLICY_LAWS(shared)
UBLK_BATCH_POLICY_LAWS(driver_batches)
UBLK_BATCH_POLICY_LAWS(each)
UBLK_BATCH_POLICY_LAWS(per_wakeup)
UBLK_BATCH_POLICY_LAWS(up_to_3)
