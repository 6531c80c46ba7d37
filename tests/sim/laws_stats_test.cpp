// SPDX-License-Identifier: MIT
#include "specimens.hpp"

#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/with.hpp>
#include <ublk/stats.hpp>

using measured = ublk::with<ublk::interleaved, ublk::stats>;

UBLK_QUEUE_POLICY_LAWS(measured)
