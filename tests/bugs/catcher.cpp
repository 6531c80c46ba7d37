// SPDX-License-Identifier: MIT

// What each planted bug is tried with: the laws of a few compositions, and the tests of
// mistakes and of refusals.

#ifndef UBLK_NO_REGRESSION
#include "../sim/regression_test.cpp"
#endif
#ifndef UBLK_NO_FALLBACK
#include "../sim/fallback_test.cpp"
#endif
#ifndef UBLK_NO_RECOVERY
#include "../sim/recovery_test.cpp"
#endif
#ifndef UBLK_NO_LAWS
#include "../sim/specimens.hpp"

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/laws.hpp>

#ifndef UBLK_NO_BATCHES
UBLK_LAWS_OF(in_batches, ::testing::Types<composition<::cached_disk, pooled, batch_io>>)
#endif
#ifndef UBLK_ONLY_BATCHES
namespace ublk::inline v0::sim {

using queue_policies = ::testing::Types<per_cpu, shared>;
using batch_policies = ::testing::Types<each, per_wakeup, up_to<3>>;
INSTANTIATE_TYPED_TEST_SUITE_P(library, queue_policy_laws, queue_policies);
INSTANTIATE_TYPED_TEST_SUITE_P(library, batch_policy_laws, batch_policies);

}  // namespace ublk::inline v0::sim

UBLK_LAWS_OF(memory, ::testing::Types<composition<::memory, per_cpu, each>,
                                      composition<::memory, shared, per_wakeup>>)
UBLK_LAWS_OF(cached_disk, ::testing::Types<composition<::cached_disk, per_cpu, up_to<3>>>)
#endif
#endif
