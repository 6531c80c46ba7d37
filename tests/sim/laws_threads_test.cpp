// SPDX-License-Identifier: MIT
#include "specimens.hpp"

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/with.hpp>

using ublk::interleaved;
using ublk::pooled;
using ublk::sqpoll;
using ublk::within;
using spins = ublk::with<ublk::per_cpu, ublk::waits::spin, ublk::places::listed_cpus>;
using spins_a_while = ublk::with<interleaved, ublk::waits::spin_then_block, ublk::places::one_l3>;

UBLK_QUEUE_POLICY_LAWS(interleaved)
UBLK_QUEUE_POLICY_LAWS(pooled)
UBLK_QUEUE_POLICY_LAWS(spins)
UBLK_QUEUE_POLICY_LAWS(spins_a_while)
UBLK_BATCH_POLICY_LAWS(sqpoll)
UBLK_BATCH_POLICY_LAWS(within)

namespace ublk::inline v0::sim {
using pooled_in_batches = composition<cached_disk, ublk::pooled, batch_io>;
}
UBLK_LAWS_OF(pooled_batches, ::testing::Types<pooled_in_batches>)
