// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/laws/worlds.hpp>

#include <cerrno>
#include <chrono>
#include <string_view>
#include <vector>

namespace ublk::inline v0::sim {

/// How a disk comes to its end, by whatever cause: nobody's request hangs, nothing that was
/// acknowledged is lost, nothing is left behind.
template <class Composition>
class ending_laws : public ::testing::Test {
public:
    [[nodiscard]] static habits usual() {
        habits given;
        given.requests = 60;
        given.bears_errors = true;
        given.remembers = specimen<typename Composition::backend>::remembers;
        return given;
    }

    /// A start, some requests and a stop, whatever goes wrong meanwhile. False where somebody was
    /// told that it did.
    static bool live_through(rig<Composition>& r) {
        bool well = true;
        const auto attempt = [&well](auto&& step) {
            try {
                step();
            } catch (const error&) {
                well = false;
            }
        };
        attempt([&r] { r.start(); });
        if (!r.server) {
            return false;  // its threads could not be had
        }
        attempt([&r] {
            if (r.server->state() == device_state::live) {
                habits few = usual();
                few.submitters = 2;
                few.requests = 6;
                few.in_flight = 3;
                workload clients{r.in, r.server->id(), r.expected, few};
                clients.run();
            }
        });
        attempt([&r] { r.server->stop(); });
        return well;
    }

    /// What a world like this calls the kernel for, from start to stop.
    static std::uint64_t calls_of_a_life(const conditions& given) {
        rig<Composition> r{given};
        (void)live_through(r);
        return r.in.on().steps;
    }

    /// A few of all calls, others in each world.
    template <class Try>
    static void at_some_calls(const conditions& given, Try attempt) {
        constexpr std::uint64_t stride = 7;
        const std::uint64_t calls = calls_of_a_life(given);
        for (std::uint64_t step = 1 + given.seed % stride;
             step <= calls && !::testing::Test::HasFailure(); step += stride) {
            const std::string_view call = attempt(step);
            if (::testing::Test::HasFailure()) {
                ADD_FAILURE() << "with the mishap at call " << step << ", " << call;
            }
        }
    }
};
TYPED_TEST_SUITE_P(ending_laws);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ending_laws);

TYPED_TEST_P(ending_laws, it_stops_under_load) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        r.start();
        {
            workload clients{r.in, r.server->id(), r.expected, TestFixture::usual()};
            clients.start();
            r.in.on().tasks.sleep(std::chrono::microseconds{r.in.dice().below(200)});
            r.server->stop();
            clients.finish();
        }
        expect_clean(r);
    });
}

/// What clients left in the page cache goes to the disk before it goes.
TYPED_TEST_P(ending_laws, it_stops_with_dirty_pages) {
    in_many_worlds([](const conditions& given) {
        rig<TypeParam> r{given};
        if (r.disk.read_only) {
            return;
        }
        r.start();
        const std::vector<std::byte> page(4096, std::byte{0x77});
        const auto offset = (r.disk.size - page.size()) / 4096 * 4096;
        client{r.in, r.server->id()}.write_dirty(offset, page);
        r.server->stop();
        r.start();
        std::vector<std::byte> found(page.size());
        EXPECT_EQ((client{r.in, r.server->id()}.read(offset, found)), 0);
        EXPECT_TRUE(!specimen<typename TypeParam::backend>::remembers || found == page)
            << "dirty pages are lost in stop()";
        expect_clean(r);
    });
}

/// One call into the kernel fails, whichever: then clients get answers, somebody is told, and the
/// device goes, unless it was the very command that removes it.
TYPED_TEST_P(ending_laws, it_ends_well_whichever_call_fails) {
    in_many_worlds([](const conditions& given) {
        TestFixture::at_some_calls(given, [&given](std::uint64_t step) {
            constexpr int codes[] = {EINTR, EAGAIN, ENOMEM, ENODEV, EIO, EBUSY, EMFILE};
            conditions bad = given;
            bad.once = {.step = step, .code = codes[step % std::size(codes)], .times = 1};
            rig<TypeParam> r{bad};
            const bool well = TestFixture::live_through(r);
            r.end_server();
            r.in.settle();
            if (r.in.devices() != 0) {
                const std::string_view call = r.in.on().hit;
                EXPECT_TRUE(call == "DEL_DEV" || call == "STOP_DEV" || call == "GET_DEV_INFO")
                    << "a device is left behind that could have been removed";
                // Who hears ENODEV of it believes that it is gone.
                EXPECT_TRUE(!well || bad.once.code == ENODEV)
                    << "a device is left behind, and nobody was told";
                r.clean_up();
            }
            expect_clean(r);
            return r.in.on().hit;
        });
    });
}

/// The process is killed at one call, whichever. A next one finds nothing that it cannot clean up.
TYPED_TEST_P(ending_laws, it_leaves_no_hang_wherever_it_dies) {
    in_many_worlds([](const conditions& given) {
        TestFixture::at_some_calls(given, [&given](std::uint64_t step) {
            conditions deadly = given;
            deadly.once = {.step = step};
            rig<TypeParam> r{deadly};
            (void)TestFixture::live_through(r);
            r.end_server();
            r.clean_up();
            expect_clean(r);
            return r.in.on().hit;
        });
    });
}

REGISTER_TYPED_TEST_SUITE_P(ending_laws, it_stops_under_load, it_stops_with_dirty_pages,
                            it_ends_well_whichever_call_fails, it_leaves_no_hang_wherever_it_dies);

}  // namespace ublk::inline v0::sim
