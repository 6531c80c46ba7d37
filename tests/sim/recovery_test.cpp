// SPDX-License-Identifier: MIT

// What becomes of a disk without its server, and who may take it over.

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/laws.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/sim/medium.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace recovery_test {
namespace {

using namespace ublk::sim;
using namespace std::chrono_literals;
using ublk::options;
using ublk::recovery_kind;
namespace uapi = ublk::uapi;

using disk = composition<cached_disk, ublk::per_cpu, ublk::per_wakeup>;
using enum recovery_kind;

[[nodiscard]] options with(recovery_kind kind) {
    options requested = rig<disk>::small();
    requested.recovery = kind;
    return requested;
}

[[nodiscard]] ublk::error error_of(const auto& call) {
    try {
        call();
    } catch (const ublk::error& thrown) {
        return thrown;
    }
    throw std::runtime_error{"no error was thrown"};
}

[[nodiscard]] bool says(const ublk::error& thrown, const std::string& words) {
    return std::string{thrown.what()}.find(words) != std::string::npos;
}

/// A started disk that loses its server at once. Returns its id.
[[nodiscard]] std::uint32_t orphan(rig<disk>& r, const options& requested) {
    r.boot(requested);
    r.server->start();
    const std::uint32_t id = r.server->id();
    r.last().kill();
    r.end_server();
    return id;
}

class recovery : public ::testing::Test {
protected:
    static void expect_refused(rig<disk>& r, std::uint32_t id, int code, const std::string& words) {
        const ublk::error refused = error_of([&] { r.server->recover(id); });
        EXPECT_EQ(refused.errno_value(), code) << refused.what();
        EXPECT_TRUE(says(refused, words)) << refused.what();
        EXPECT_FALSE(refused.remedy().empty()) << refused.what();
        EXPECT_EQ(r.server->state(), ublk::device_state::idle);
    }
};

TEST_F(recovery, the_device_says_what_it_was_given) {
    for (const recovery_kind kind : {none, fail_in_flight, reissue, fail_io}) {
        rig<disk> r{{}};
        r.boot(with(kind));
        r.server->start();
        EXPECT_EQ(r.server->info().recovery, kind);
        EXPECT_FALSE(r.server->info().recovered);
        const bool may_be_quiesced = (r.server->info().flags & uapi::feature::quiesce) != 0;
        EXPECT_EQ(may_be_quiesced, kind != none);
        r.server->stop();
        expect_clean(r);
    }
}

TEST_F(recovery, a_kernel_without_the_kind_is_told_so) {
    rig<disk> r{{.version = {6, 12}}};
    r.boot(with(fail_io));
    const ublk::error refused = error_of([&] { r.server->start(); });
    EXPECT_EQ(refused.errno_value(), EOPNOTSUPP);
    EXPECT_TRUE(says(refused, "6.13")) << refused.what();
    expect_clean(r);
}

TEST_F(recovery, a_live_device_is_left_to_its_server) {
    rig<disk> r{{}};
    r.boot(with(reissue));
    r.server->start();
    const std::uint32_t id = r.server->id();
    const std::string owner = "process " + std::to_string(r.last().process_id());
    const std::unique_ptr<rig<disk>::device> first = std::move(r.server);
    r.boot();
    expect_refused(r, id, EBUSY, owner);
    EXPECT_EQ(error_of([&] { first->recover(id); }).errno_value(), EALREADY);
    first->stop();
    expect_clean(r);
}

TEST_F(recovery, what_was_never_there_or_is_stopped_cannot_be_recovered) {
    rig<disk> r{{}};
    r.boot();
    expect_refused(r, 5, ENODEV, "no such device");
    const std::uint32_t id = orphan(r, with(reissue));
    r.in.settle();
    {
        const kernel other = r.in.boot();
        ublk::detail::control_commands<kernel> commands{other, 10s};
        commands.stop_dev(id, 10s);
    }
    r.boot();
    expect_refused(r, id, ENODEV, "stopped");
    r.end_server();
    r.clean_up();
    expect_clean(r);
}

TEST_F(recovery, a_device_without_recovery_ends_with_its_server) {
    rig<disk> r{{}};
    const std::uint32_t id = orphan(r, with(none));
    r.in.settle();
    r.boot();
    expect_refused(r, id, EOPNOTSUPP, "added without recovery");
    r.end_server();
    r.clean_up();
    expect_clean(r);
}

TEST_F(recovery, another_librarys_device_is_not_touched) {
    rig<disk> r{{}};
    const std::uint32_t id = orphan(r, with(reissue));
    r.in.settle();
    r.in.ublk_drv().life.find(id)->info.server_flags = 42;
    r.boot();
    expect_refused(r, id, EPERM, "not of this library");
    r.end_server();
    r.clean_up();
    expect_clean(r);
}

TEST_F(recovery, a_backend_of_another_size_does_not_fit) {
    rig<disk> r{{}};
    const std::uint32_t id = orphan(r, with(reissue));
    const std::shared_ptr<cached_disk> right = std::exchange(
        r.store, std::make_shared<cached_disk>(std::make_shared<medium>(64u << 10, 512u)));
    r.boot();
    expect_refused(r, id, EINVAL, "bytes");
    r.store = specimen<cached_disk>::revive(right);
    r.boot();
    r.server->recover(id);  // which the refusal has not changed
    EXPECT_EQ(r.server->id(), id);
    r.server->stop();
    expect_clean(r);
}

/// Does not say that it is idempotent.
class once_only : public cached_disk {
public:
    using cached_disk::cached_disk;
    static constexpr bool idempotent = false;
};

TEST_F(recovery, only_idempotent_backends_are_sent_requests_again) {
    using device = ublk::device<once_only, ublk::per_cpu, ublk::per_wakeup, kernel>;
    const auto store = std::make_shared<medium>(128u << 10, 512u);
    rig<disk> r{{}};
    device first{std::make_shared<once_only>(store), with(reissue), r.in.boot()};
    const ublk::error at_start = error_of([&] { first.start(); });
    EXPECT_EQ(at_start.errno_value(), EINVAL);
    EXPECT_TRUE(says(at_start, "idempotent")) << at_start.what();

    const std::uint32_t id = orphan(r, with(reissue));
    device next{std::make_shared<once_only>(store), {}, r.in.boot()};
    const ublk::error at_recovery = error_of([&] { next.recover(id); });
    EXPECT_EQ(at_recovery.errno_value(), EINVAL);
    EXPECT_TRUE(says(at_recovery, "idempotent")) << at_recovery.what();
    r.clean_up();
    expect_clean(r);
}

TEST_F(recovery, what_the_caller_asks_for_gives_way_to_what_the_device_has) {
    rig<disk> r{{}};
    options first = with(fail_in_flight);
    first.io_desc_size = 64;
    const std::uint32_t id = orphan(r, first);
    options other = rig<disk>::small();
    other.id = id + 7;
    other.queues = 1;
    other.depth = 64;
    other.max_io_bytes *= 2;
    other.recovery = fail_io;
    r.boot(other);
    r.server->recover(id);
    const ublk::device_info has = r.server->info();
    EXPECT_EQ(has.id, id);
    EXPECT_EQ(has.queues, first.queues);
    EXPECT_EQ(has.depth, first.depth);
    EXPECT_EQ(has.max_io_bytes, first.max_io_bytes);
    EXPECT_EQ(has.io_desc_size, 64);
    EXPECT_EQ(has.recovery, fail_in_flight);
    r.server->stop();
    expect_clean(r);
}

TEST_F(recovery, a_device_in_batches_needs_a_policy_in_batches) {
    using in_batches = composition<cached_disk, ublk::per_cpu, ublk::batch_io>;
    rig<in_batches> r{{}};
    options requested = with(reissue);
    r.boot(requested);
    r.server->start();
    const std::uint32_t id = r.server->id();
    ASSERT_TRUE(r.server->info().batch_io);
    r.last().kill();
    r.end_server();
    ublk::device<cached_disk, ublk::per_cpu, ublk::per_wakeup, kernel> plain{r.store, options{},
                                                                             r.in.boot()};
    const ublk::error refused = error_of([&] { plain.recover(id); });
    EXPECT_EQ(refused.errno_value(), EINVAL);
    EXPECT_TRUE(says(refused, "batch_io")) << refused.what();
    r.boot();
    r.server->recover(id);
    EXPECT_TRUE(r.server->info().batch_io);
    r.server->stop();
    expect_clean(r);
}

TEST_F(recovery, a_stop_writes_back_what_clients_left_in_the_page_cache) {
    for (const recovery_kind kind : {none, fail_in_flight, reissue, fail_io}) {
        rig<disk> r{{}};
        r.boot(with(kind));
        r.server->start();
        std::vector<std::byte> data(4096, std::byte{0x5a});
        {
            client file{r.in, r.server->id()};
            file.write_dirty(8192, data);
        }
        r.server->stop();
        std::vector<std::byte> found(data.size());
        r.store->store()->read(8192, found);
        EXPECT_EQ(found, data) << to_string(kind);
        expect_clean(r);
    }
}

TEST_F(recovery, a_quiesced_device_is_left_to_its_next_server) {
    for (const recovery_kind kind : {fail_in_flight, fail_io}) {
        rig<disk> r{{}};
        r.boot(with(kind));
        r.server->start();
        const std::uint32_t id = r.server->id();
        {
            const kernel other = r.in.boot();
            ublk::detail::control_commands<kernel> commands{other, 10s};
            EXPECT_TRUE(commands.quiesce_dev(id, 100ms));
        }
        r.server->wait();  // returns, since nothing went wrong
        EXPECT_EQ(r.server->state(), ublk::device_state::idle);
        ASSERT_EQ(r.in.devices(), 1u);
        r.boot();
        r.server->recover(id);
        r.server->stop();
        expect_clean(r);
    }
}

TEST_F(recovery, who_is_stopped_from_outside_deletes_its_device_as_ever) {
    rig<disk> r{{}};
    r.boot(with(fail_in_flight));
    r.server->start();
    {
        const kernel other = r.in.boot();
        ublk::detail::control_commands<kernel> commands{other, 10s};
        commands.stop_dev(r.server->id(), 10s);
    }
    r.server->wait();
    expect_clean(r);
}

TEST_F(recovery, all_who_wait_hear_of_a_stop_and_of_nothing_else) {
    rig<disk> r{{}};
    r.boot(with(reissue));
    r.server->start();
    const std::uint32_t id = r.server->id();
    r.in.settle();
    std::optional<client> file{std::in_place, r.in, id};
    unsigned ended = 0;
    const auto wait = [&] {
        r.server->wait();
        ++ended;
    };
    ublk::sim::thread first{wait}, second{wait};
    r.in.settle();
    std::vector<std::byte> data(4096);
    bio b;
    b.sectors = 8;
    b.data = data.data();
    r.in.on().is.once = {.step = r.in.on().steps + 1, .code = EBADF};
    file->submit(b);
    EXPECT_EQ(file->wait(b), 0);
    r.in.settle();
    EXPECT_EQ(ended, 0u) << "the disk was recovered";
    file.reset();
    r.server->stop();
    first.join();
    second.join();
    EXPECT_EQ(ended, 2u);
    r.end_server();
    r.told.clear();
    expect_clean(r);
}

/// The next call into the kernel that a queue thread makes for a request of that client fails.
void lose_a_thread(rig<disk>& r, client& file) {
    std::vector<std::byte> data(4096);
    bio b;
    b.sectors = 8;
    b.data = data.data();
    r.in.on().is.once = {.step = r.in.on().steps + 1, .code = EBADF};
    file.submit(b);
    EXPECT_EQ(file.wait(b), 0) << "what was served is answered";
}

TEST_F(recovery, a_disk_that_loses_a_thread_is_served_anew_once) {
    for (const ublk::kernel_version version : {ublk::kernel_version{7, 3}, {6, 12}}) {
        rig<disk> r{{.version = version}};
        r.boot(with(reissue));
        r.server->start();
        const std::uint32_t id = r.server->id();
        r.in.settle();
        std::optional<client> file{std::in_place, r.in, id};
        std::optional<ublk::error> lost;
        ublk::sim::thread waiting{[&] { lost = error_of([&] { r.server->wait(); }); }};
        lose_a_thread(r, *file);
        r.in.settle();
        EXPECT_EQ(r.server->state(), ublk::device_state::live);
        EXPECT_TRUE(r.server->info().recovered);
        std::vector<std::byte> data(4096);
        EXPECT_EQ(file->read(0, data), 0);
        const std::vector<ublk::event> events = r.server->events();
        ASSERT_FALSE(events.empty());
        EXPECT_EQ(events.back().type, ublk::event::kind::recovered);
        EXPECT_NE(events.back().message.find("Bad file descriptor"), std::string::npos)
            << events.back().message;

        lose_a_thread(r, *file);
        waiting.join();
        ASSERT_TRUE(lost);
        EXPECT_EQ(lost->errno_value(), EBADF) << lost->what();
        EXPECT_TRUE(says(*lost, "recover it")) << lost->what();
        bio later;
        later.sectors = 8;
        later.data = data.data();
        file->submit(later);
        r.in.on().tasks.sleep(1s);
        EXPECT_FALSE(later.done) << "it waits for the next server";
        r.boot();
        r.server->recover(id);
        EXPECT_EQ(file->wait(later), 0);
        file.reset();
        r.server->stop();
        r.told.clear();
        expect_clean(r);
    }
}

/// Dies at the nth call into the kernel of its recovery. False where the recovery has fewer.
[[nodiscard]] bool dies_in_recovery(const conditions& given, std::uint64_t step) {
    rig<disk> r{given};
    options requested = with(reissue);
    r.boot(requested);
    r.server->start();
    const std::uint32_t id = r.server->id();
    std::vector<std::byte> data(4096, std::byte{0x5a});
    std::optional<client> file{std::in_place, r.in, id};
    EXPECT_EQ(file->write(4096, data), 0);
    r.last().kill();
    r.end_server();
    r.store = specimen<cached_disk>::revive(r.store);

    r.boot();
    machine& on = r.in.on();
    on.is.once = {.step = on.steps + step};
    try {
        r.server->recover(id);
    } catch (const ublk::error&) {
    }
    const bool died = r.last().dead();
    on.is.once = {};
    r.last().kill();
    r.end_server();

    r.store = specimen<cached_disk>::revive(r.store);
    r.boot();
    r.server->recover(id);
    std::vector<std::byte> found(data.size());
    EXPECT_EQ(file->read(4096, found), 0);
    EXPECT_EQ(found, data) << "after a death at step " << step;
    file.reset();
    r.server->stop();
    expect_clean(r);
    return died;
}

TEST_F(recovery, one_that_dies_at_any_step_is_followed_by_another) {
    for (const ublk::kernel_version version : {ublk::kernel_version{7, 3}, {6, 16}}) {
        std::uint64_t step = 1;
        while (step < 500 && !HasFailure()) {
            conditions given;
            given.seed = step;
            given.version = version;
            if (!dies_in_recovery(given, step)) {
                break;
            }
            ++step;
        }
        EXPECT_GT(step, 15u) << version.text() << ": a recovery has more steps than that";
        EXPECT_LT(step, 500u);
    }
}

TEST_F(recovery, one_that_is_refused_at_any_step_leaves_the_device_as_it_was) {
    std::uint64_t refusals = 0;
    for (std::uint64_t step = 1; step < 500 && !HasFailure(); ++step) {
        rig<disk> r{{.seed = step}};
        const std::uint32_t id = orphan(r, with(fail_in_flight));
        r.store = specimen<cached_disk>::revive(r.store);
        r.boot();
        machine& on = r.in.on();
        const std::uint64_t begun = on.steps;
        on.is.once = {.step = begun + step, .code = ENOMEM};
        bool refused = false;
        try {
            r.server->recover(id);
        } catch (const ublk::error&) {
            refused = true;
        }
        const bool reached = on.steps >= begun + step;
        on.is.once = {};
        if (refused) {
            ++refusals;
            EXPECT_EQ(r.server->state(), ublk::device_state::idle);
            r.boot();
            r.server->recover(id);
        }
        EXPECT_EQ(r.server->id(), id);
        r.server->stop();
        expect_clean(r);
        if (!reached) {
            break;
        }
    }
    EXPECT_GT(refusals, 10u);
}

}  // namespace
}  // namespace recovery_test
