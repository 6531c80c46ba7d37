// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/laws/worlds.hpp>

#include <chrono>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

namespace ublk::inline v0::sim {

/// What a disk keeps when its server dies or its power is cut. For backends whose specimen says how
/// they come back.
template <class Composition>
class keeping_laws : public ::testing::Test {
public:
    using backend = typename Composition::backend;

    /// A life that ends by SIGKILL while clients are at work.
    static void live_and_die(rig<Composition>& r) {
        habits busy;
        busy.requests = 40;
        busy.flushes = 6;
        busy.fua = 3;
        busy.bears_errors = true;
        r.start();
        workload clients{r.in, r.server->id(), r.expected, busy};
        clients.start();
        r.in.on().tasks.sleep(std::chrono::microseconds{r.in.dice().below(300)});
        r.last().kill();
        clients.finish();
    }

    /// A next server on what is left: everything is read and compared, then it works on.
    static void live_again(rig<Composition>& r) {
        r.start();
        habits calm;
        calm.requests = 20;
        workload clients{r.in, r.server->id(), r.expected, calm};
        clients.read_all();
        clients.run();
        clients.read_all();
    }

    /// What becomes of the disk when its server dies: any that backend and kernel allow.
    [[nodiscard]] static recovery_kind some_kind(rig<Composition>& r) {
        using enum recovery_kind;
        const bool fails_all = r.in.on().since(6, 13);
        const recovery_kind kinds[] = {fail_in_flight, r.disk.idempotent ? reissue : fail_in_flight,
                                       fails_all ? fail_io : fail_in_flight};
        return kinds[r.in.dice().below(std::size(kinds))];
    }

    /// Server after server dies while the same clients go on; `come_back` makes of a dead disk what
    /// the next one finds. Errors are borne where the kind has some.
    template <class ComeBack>
    static void recovered_twice(const conditions& given, ComeBack come_back) {
        rig<Composition> r{given};
        options requested = r.small();
        requested.recovery = some_kind(r);
        habits busy;
        busy.requests = 60;
        busy.flushes = 6;
        busy.fua = 3;
        busy.bears_errors = requested.recovery != recovery_kind::reissue;
        r.boot(requested);
        r.server->start();
        const std::uint32_t id = r.server->id();
        std::optional<workload> clients{std::in_place, r.in, id, r.expected, busy};
        clients->start();
        for (int deaths = 0; deaths < 2; ++deaths) {
            r.in.on().tasks.sleep(std::chrono::microseconds{r.in.dice().below(300)});
            r.last().kill();
            r.end_server();
            come_back(r);
            r.boot();
            r.server->recover(id);
            EXPECT_EQ(r.server->info().recovery, requested.recovery);
            EXPECT_TRUE(r.server->info().recovered);
        }
        clients->finish();
        clients->read_all();
        clients.reset();  // which has the disk open
        r.server->stop();
        expect_clean(r);
    }

    /// `come_back` makes of a dead disk what the next server finds.
    template <class ComeBack>
    static void three_lives(const conditions& given, ComeBack come_back) {
        rig<Composition> r{given};
        for (int lives = 0; lives < 3; ++lives) {
            live_and_die(r);
            r.end_server();
            r.clean_up();
            come_back(r);
            live_again(r);
            r.server->stop();
        }
        expect_clean(r);
    }
};
TYPED_TEST_SUITE_P(keeping_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(keeping_laws);

/// What was acknowledged is there.
TYPED_TEST_P(keeping_laws, it_survives_its_server) {
    using disk = typename TypeParam::backend;
    if constexpr (revivable<disk>) {
        in_many_worlds([](const conditions& given) {
            TestFixture::three_lives(given, [](rig<TypeParam>& r) {
                r.store = specimen<disk>::revive(r.store);
                r.expected.server_died();
            });
        });
    }
}

/// What was flushed or written with FUA is there; nothing is there that was never written.
TYPED_TEST_P(keeping_laws, it_keeps_what_was_flushed) {
    using disk = typename TypeParam::backend;
    if constexpr (loses_power<disk>) {
        in_many_worlds([](const conditions& given) {
            TestFixture::three_lives(given, [](rig<TypeParam>& r) {
                r.store = specimen<disk>::power_cut(r.store, r.in.dice());
                r.expected.power_cut();
            });
        });
    }
}

/// A next server takes over from one that died, with its clients and their requests.
TYPED_TEST_P(keeping_laws, a_next_server_recovers_it) {
    using disk = typename TypeParam::backend;
    if constexpr (revivable<disk>) {
        in_many_worlds([](const conditions& given) {
            TestFixture::recovered_twice(
                given, [](rig<TypeParam>& r) { r.store = specimen<disk>::revive(r.store); });
        });
    }
}

REGISTER_TYPED_TEST_SUITE_P(keeping_laws, it_survives_its_server, it_keeps_what_was_flushed,
                            a_next_server_recovers_it);

}  // namespace ublk::inline v0::sim
