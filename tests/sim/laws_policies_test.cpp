// SPDX-License-Identifier: MIT
#include "specimens.hpp"

#include <ublk/policy/batch_policy.hpp>

using ublk::batch_io;
using ublk::each;
using ublk::per_cpu;
using ublk::per_wakeup;
using ublk::shared;
using up_to_3 = ublk::up_to<3>;

UBLK_QUEUE_POLICY_LAWS(per_cpu)
UBLK_QUEUE_POLICY_LAWS(shared)
UBLK_BATCH_POLICY_LAWS(batch_io)
UBLK_BATCH_POLICY_LAWS(each)
UBLK_BATCH_POLICY_LAWS(per_wakeup)
UBLK_BATCH_POLICY_LAWS(up_to_3)
