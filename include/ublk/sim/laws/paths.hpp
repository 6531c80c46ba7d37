// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/laws/worlds.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace ublk::inline v0::sim {

/// How the bytes of requests travel makes no difference to what a disk is.
template <class Composition>
class path_laws : public ::testing::Test {
public:
    using backend = typename Composition::backend;

    /// Whether that backend is served that way on that kernel.
    [[nodiscard]] static bool possible(data_path path, const conditions& given) {
        constexpr auto offered = []<std::size_t... Path>(std::index_sequence<Path...>) {
            return std::array{offers<backend>(static_cast<data_path>(Path))...};
        }
        (std::make_index_sequence<data_path_names.size()>{});
        const std::uint64_t known = features_of(given.version);
        const bool batches = batch_policy_traits<typename Composition::batch_policy>::by_driver &&
                             (known & uapi::feature::batch_io) != 0;
        return offered[static_cast<std::size_t>(path)] && (features_of(path) & ~known) == 0 &&
               (!batches || batches_carry(path));
    }

    [[nodiscard]] static options by(data_path path) {
        options requested = rig<Composition>::small();
        requested.path = path;
        return requested;
    }
};
TYPED_TEST_SUITE_P(path_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(path_laws);

/// One server after the other on the same disk, each by another path, and each finds what those
/// before it have left.
TYPED_TEST_P(path_laws, it_is_the_same_disk_by_every_path) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        habits clients_do;
        clients_do.requests = 40;
        clients_do.remembers = specimen<typename TypeParam::backend>::remembers;
        for (const auto& [path, name] : data_path_names) {
            if (TestFixture::possible(path, given)) {
                r.boot(TestFixture::by(path));
                r.server->start();
                EXPECT_EQ(r.server->info().path, path) << name;
                workload clients{r.in, r.server->id(), r.expected, clients_do};
                if (clients_do.remembers) {
                    clients.read_all();
                }
                clients.run();
                r.server->stop();
            }
        }
        expect_clean(r);
    });
}

/// A path that is asked for is taken or refused, never replaced; and who is refused hears why.
TYPED_TEST_P(path_laws, it_is_refused_what_it_cannot_have) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        for (const auto& [path, name] : data_path_names) {
            if (TestFixture::possible(path, given)) {
                continue;
            }
            r.boot(TestFixture::by(path));
            try {
                r.server->start();
                ADD_FAILURE() << name << " is granted";
            } catch (const error& refused) {
                EXPECT_EQ(refused.errno_value(), EOPNOTSUPP) << name;
                EXPECT_NE(std::string{refused.what()}.find(name), std::string::npos)
                    << refused.what();
            }
            EXPECT_EQ(r.in.devices(), 0u) << name << " is refused and leaves a device behind";
        }
        expect_clean(r);
    });
}

REGISTER_TYPED_TEST_SUITE_P(path_laws, it_is_the_same_disk_by_every_path,
                            it_is_refused_what_it_cannot_have);

}  // namespace ublk::inline v0::sim
