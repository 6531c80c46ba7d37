// SPDX-License-Identifier: MIT
#pragma once

// Laws as GoogleTest suites, on a simulated driver: no root, no kernel module, no waiting.
//
//     #include <ublk/sim/laws.hpp>
//     UBLK_BACKEND_LAWS(my_backend)               // with every policy of the library
//     UBLK_QUEUE_POLICY_LAWS(my_queue_policy)     // alone, and with a backend of ours
//     UBLK_BATCH_POLICY_LAWS(my_batch_policy)
//
// at namespace scope of a test program; the name without `::`. `ublk::sim::specimen` says how a
// backend is made. UBLK_SIM_SEEDS in the environment is the number of worlds that each law is tried
// in, UBLK_SIM_SEED replays one.

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/laws/ending.hpp>
#include <ublk/sim/laws/keeping.hpp>
#include <ublk/sim/laws/paths.hpp>
#include <ublk/sim/laws/policies.hpp>
#include <ublk/sim/laws/serving.hpp>
#include <ublk/sim/medium.hpp>

#include <memory>

namespace ublk::inline v0::sim {

template <class Backend>
using with_every_policy =
    ::testing::Types<composition<Backend, per_cpu, each>, composition<Backend, per_cpu, per_wakeup>,
                     composition<Backend, per_cpu, up_to<3>>, composition<Backend, shared, each>,
                     composition<Backend, shared, per_wakeup>,
                     composition<Backend, shared, up_to<3>>>;

/// The disk that policies are tried with.
template <>
struct specimen<cached_disk> {
    static std::shared_ptr<cached_disk> make() {
        return std::make_shared<cached_disk>(std::make_shared<medium>(128u << 10, sector_size));
    }
    static std::shared_ptr<cached_disk> revive(const std::shared_ptr<cached_disk>& dead) {
        return std::make_shared<cached_disk>(dead->store());
    }
    static std::shared_ptr<cached_disk> power_cut(const std::shared_ptr<cached_disk>& dead,
                                                  random& dice) {
        dead->store()->power_cut(dice);
        dead->store()->thaw();
        return revive(dead);
    }
    static constexpr bool remembers = true;
};

}  // namespace ublk::inline v0::sim

#define UBLK_LAWS_OF(name, ...)                                                                    \
    namespace ublk::inline v0::sim {                                                               \
    using name##_under_laws = __VA_ARGS__;                                                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, serving_laws, name##_under_laws);                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, ending_laws, name##_under_laws);                          \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, keeping_laws, name##_under_laws);                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, path_laws, name##_under_laws);                            \
    }

#define UBLK_BACKEND_LAWS(backend) UBLK_LAWS_OF(backend, with_every_policy<::backend>)

#define UBLK_QUEUE_POLICY_LAWS(policy)                                                             \
    namespace ublk::inline v0::sim {                                                               \
    INSTANTIATE_TYPED_TEST_SUITE_P(policy, queue_policy_laws, ::policy);                           \
    }                                                                                              \
    UBLK_LAWS_OF(policy, ::testing::Types<composition<cached_disk, ::policy, per_wakeup>>)

#define UBLK_BATCH_POLICY_LAWS(policy)                                                             \
    namespace ublk::inline v0::sim {                                                               \
    INSTANTIATE_TYPED_TEST_SUITE_P(policy, batch_policy_laws, ::policy);                           \
    }                                                                                              \
    UBLK_LAWS_OF(policy, ::testing::Types<composition<cached_disk, per_cpu, ::policy>>)
