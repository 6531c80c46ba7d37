// SPDX-License-Identifier: MIT
#pragma once

// Laws as GoogleTest suites, on a simulated driver: no root, no kernel module, no waiting.
//
//     #include <ublk/sim/laws.hpp>
//     UBLK_BACKEND_LAWS(my_backend)               // with every policy of the library
//     UBLK_QUEUE_POLICY_LAWS(my_queue_policy)     // alone, and with a backend of ours
//     UBLK_BATCH_POLICY_LAWS(my_batch_policy)
//
// at the global scope of a test program, with any type: my_backend, my::disk, striped<disk, 4>.
// Suites are called backend/serving_laws/my_disk/0 and so on. `ublk::sim::specimen` says how a
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

#include <cctype>
#include <memory>
#include <string>

namespace ublk::inline v0::sim {

/// Suites behind their prefix: the type, of whose text only letters and digits can stay, and which
/// of its compositions.
template <class Tried>
struct law_names {
    template <class>
    [[nodiscard]] static std::string GetName(int i) {
        std::string name;
        for (const char* at = Tried::name; *at != '\0'; ++at) {
            const bool kept = std::isalnum(static_cast<unsigned char>(*at)) != 0 || *at == '_';
            if (kept) {
                name += *at;
            } else if (!name.empty() && name.back() != '_') {
                name += '_';
            }
        }
        return name.substr(0, name.find_last_not_of('_') + 1) + "/" + std::to_string(i);
    }
};

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

/// With named types, for compositions of one's own: suites are name/serving_laws/0 and so on.
#define UBLK_LAWS_OF(name, ...)                                                                    \
    namespace ublk::inline v0::sim {                                                               \
    using name##_under_laws = __VA_ARGS__;                                                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, serving_laws, name##_under_laws);                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, ending_laws, name##_under_laws);                          \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, keeping_laws, name##_under_laws);                         \
    INSTANTIATE_TYPED_TEST_SUITE_P(name, path_laws, name##_under_laws);                            \
    }

// GoogleTest makes variables of a suite's prefix, so that it cannot be my::disk or disk<a, b>. Each
// use has a namespace of its own instead, and the type is named behind the suite.
#define UBLK_LAWS_WITH(number, text, ...)                                                          \
    namespace {                                                                                    \
    struct ublk_laws_##number {                                                                    \
        using type = __VA_ARGS__;                                                                  \
        static constexpr const char* name = text;                                                  \
    };                                                                                             \
    }
#define UBLK_LAWS_IN(number, prefix, ...)                                                          \
    namespace ublk::inline v0::sim::laws_##number {                                                \
        using tried = ::ublk_laws_##number;                                                        \
        using names = law_names<tried>;                                                            \
        using types = __VA_ARGS__;                                                                 \
        INSTANTIATE_TYPED_TEST_SUITE_P(prefix, serving_laws, types, names);                        \
        INSTANTIATE_TYPED_TEST_SUITE_P(prefix, ending_laws, types, names);                         \
        INSTANTIATE_TYPED_TEST_SUITE_P(prefix, keeping_laws, types, names);                        \
        INSTANTIATE_TYPED_TEST_SUITE_P(prefix, path_laws, types, names);                           \
    }
#define UBLK_LAWS_ALONE(number, prefix, suite)                                                     \
    namespace ublk::inline v0::sim::laws_##number {                                                \
        using alone = law_names<::ublk_laws_##number>;                                             \
        INSTANTIATE_TYPED_TEST_SUITE_P(prefix, suite, ::ublk_laws_##number::type, alone);          \
    }

#define UBLK_BACKEND_LAWS_AT(number, ...)                                                          \
    UBLK_LAWS_WITH(number, #__VA_ARGS__, __VA_ARGS__)                                              \
    UBLK_LAWS_IN(number, backend, with_every_policy<tried::type>)
#define UBLK_QUEUE_POLICY_LAWS_AT(number, ...)                                                     \
    UBLK_LAWS_WITH(number, #__VA_ARGS__, __VA_ARGS__)                                              \
    UBLK_LAWS_ALONE(number, queue_policy, queue_policy_laws)                                       \
    UBLK_LAWS_IN(number, queue_policy,                                                             \
                 ::testing::Types<composition<cached_disk, tried::type, per_wakeup>>)
#define UBLK_BATCH_POLICY_LAWS_AT(number, ...)                                                     \
    UBLK_LAWS_WITH(number, #__VA_ARGS__, __VA_ARGS__)                                              \
    UBLK_LAWS_ALONE(number, batch_policy, batch_policy_laws)                                       \
    UBLK_LAWS_IN(number, batch_policy,                                                             \
                 ::testing::Types<composition<cached_disk, per_cpu, tried::type>>)
#define UBLK_LAWS_NUMBERED(laws, number, ...) laws(number, __VA_ARGS__)

#define UBLK_BACKEND_LAWS(...) UBLK_LAWS_NUMBERED(UBLK_BACKEND_LAWS_AT, __COUNTER__, __VA_ARGS__)
#define UBLK_QUEUE_POLICY_LAWS(...)                                                                \
    UBLK_LAWS_NUMBERED(UBLK_QUEUE_POLICY_LAWS_AT, __COUNTER__, __VA_ARGS__)
#define UBLK_BATCH_POLICY_LAWS(...)                                                                \
    UBLK_LAWS_NUMBERED(UBLK_BATCH_POLICY_LAWS_AT, __COUNTER__, __VA_ARGS__)
