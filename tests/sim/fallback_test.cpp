// SPDX-License-Identifier: MIT
// A kernel refuses at run time what it has, or what was asked for: the next best way serves.
#include "../support/async_disks.hpp"

#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/thread_set.hpp>
#include <ublk/ublk.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fallback_test {
namespace {

using namespace ublk::sim;
using ublk::data_path;
using ublk::options;
namespace uapi = ublk::uapi;

/// A kernel that refuses some things.
struct refusals {
    bool tables = false;   ///< of registered buffers
    bool fetches = false;  ///< in the driver's batches
    bool places = false;   ///< on CPUs
};
class refusing_kernel : public kernel {
public:
    static inline refusals what;
    static inline unsigned added = 0;

    refusing_kernel(const kernel& plain) : kernel{plain} {}

    [[nodiscard]] bool enter_queue_thread(const ublk::cpu_set& cpus) const noexcept {
        return cpus.empty() || !what.places;
    }

    class port : public kernel::port {
    public:
        port(const channel& device, const wakeup& wakeup, const ublk::detail::port_needs& needs)
            : kernel::port{device, wakeup, needs} {
            if (what.tables && needs.reserved_buffers != 0) {
                throw ublk::detail::setup_refused{
                    ublk::detail::setup_refused::kind::path, ENOMEM, "making room", {}, "", ""};
            }
        }
    };

    class batch_wire : public kernel::batch_wire {
    public:
        using kernel::batch_wire::batch_wire;
        void prepare_tags(uapi::batch_io header, const void* elements,
                          ublk::detail::user_data t) noexcept {
            header.q_id = what.fetches ? std::uint16_t{4000} : header.q_id;
            kernel::batch_wire::prepare_tags(header, elements, t);
        }
    };

    class control : public kernel::control {
    public:
        explicit control(kernel::control&& plain) : kernel::control{std::move(plain)} {}
        [[nodiscard]] ublk::detail::control_ticket begin(ublk::detail::control_command command) {
            added += command.op == uapi::ctrl::add_dev ? 1 : 0;
            return kernel::control::begin(command);
        }
    };
    [[nodiscard]] control open_control() const { return control{kernel::open_control()}; }
};

template <class Batch = ublk::per_wakeup>
using composition_of = ublk::device<file_disk, ublk::per_cpu, Batch, refusing_kernel>;

std::vector<std::string> heard;

/// One start, and the life of what it starts.
template <class Batch = ublk::per_wakeup>
struct scene {
    explicit scene(const conditions& given) : in{given} {
        refusing_kernel::what = {};
        refusing_kernel::added = 0;
        heard.clear();
        requested.queues = 2;
        requested.depth = 4;
        requested.max_io_bytes = static_cast<std::uint32_t>(2 * ::sysconf(_SC_PAGESIZE));
        requested.on_event = [](const ublk::event& e) { heard.push_back(to_string(e)); };
    }

    ublk::device_info start() {
        disk = std::make_unique<composition_of<Batch>>(std::make_shared<file_disk>(), requested,
                                                       refusing_kernel{in.boot()});
        disk->start();
        if (in.on().is.once.step != 0) {
            in.on().is.once = {};  // only the start is to fail
            return disk->info();
        }
        client some{in, disk->id()};
        const std::vector<std::byte> data(8192, std::byte{0x5a});
        std::vector<std::byte> back(8192);
        EXPECT_EQ(some.write(4096, data), 0);
        EXPECT_EQ(some.read(4096, back), 0);
        EXPECT_EQ(data, back);
        return disk->info();
    }

    void expect_clean() {
        if (disk && disk->state() == ublk::device_state::live) {
            disk->stop();
        }
        disk.reset();
        in.settle();
        EXPECT_TRUE(in.take_violations().empty());
        EXPECT_EQ(in.forget_devices(), 0u) << "a device is left behind";
        EXPECT_EQ(in.on().tasks.tasks(), 0u) << "threads are left behind";
    }

    world in;
    options requested;
    std::unique_ptr<composition_of<Batch>> disk;
};

constexpr ublk::kernel_version without_zero_copy{6, 12};
constexpr ublk::kernel_version with_everything{7, 3};

bool mentions(const std::string& outcome, const std::string& what) {
    return outcome.find(what) != outcome.npos;
}

TEST(fallback, tag_buffers_that_may_not_be_registered_lead_to_the_next_path) {
    scene s{{.seed = 1, .version = without_zero_copy, .lockable_bytes = 4096}};
    const ublk::device_info granted = s.start();
    EXPECT_EQ(granted.path, data_path::copy);
    EXPECT_TRUE(mentions(granted.path_reason, "not fixed_copy: registering buffers with io_uring "
                                              "failed: Cannot allocate memory"))
        << granted.path_reason;
    EXPECT_EQ(refusing_kernel::added, 2u);
    s.expect_clean();
}

TEST(fallback, an_id_that_was_asked_for_is_kept) {
    scene s{{.seed = 2, .version = without_zero_copy, .lockable_bytes = 4096}};
    s.requested.id = 17;
    EXPECT_EQ(s.start().id, 17u);
    s.expect_clean();
}

TEST(fallback, a_kernel_without_room_for_clients_pages_serves_by_copies) {
    scene s{{.seed = 3, .version = with_everything}};
    refusing_kernel::what.tables = true;
    const ublk::device_info granted = s.start();
    EXPECT_NE(granted.path, data_path::auto_buffer);
    EXPECT_NE(granted.path, data_path::zero_copy);
    EXPECT_TRUE(mentions(granted.path_reason, "not auto_buffer: making room failed"))
        << granted.path_reason;
    EXPECT_TRUE(mentions(granted.path_reason, "not zero_copy: making room failed"));
    s.expect_clean();
}

TEST(fallback, a_path_that_is_required_is_an_error) {
    scene s{{.seed = 4, .version = without_zero_copy, .lockable_bytes = 4096}};
    s.requested.path = data_path::fixed_copy;
    EXPECT_THROW(s.start(), ublk::detail::setup_refused);
    EXPECT_EQ(refusing_kernel::added, 1u);
    s.expect_clean();
}

TEST(fallback, whoever_wants_no_less_gets_the_error) {
    scene s{{.seed = 5, .version = without_zero_copy, .lockable_bytes = 4096}};
    s.requested.fall_back = false;
    EXPECT_THROW(s.start(), ublk::detail::setup_refused);
    s.expect_clean();
}

TEST(fallback, batches_that_the_driver_refuses_lead_to_single_commands) {
    scene<ublk::batch_io> s{{.seed = 6, .version = with_everything}};
    refusing_kernel::what.fetches = true;
    const ublk::device_info granted = s.start();
    EXPECT_FALSE(granted.batch_io);
    ASSERT_EQ(granted.fallbacks.size(), 1u);
    EXPECT_TRUE(mentions(granted.fallbacks[0], "completions go back once a wake-up: PREP_IO_CMDS "
                                               "failed"))
        << granted.fallbacks[0];
    s.expect_clean();
}

TEST(fallback, batches_that_must_be_are_an_error_where_the_driver_refuses_them) {
    scene<ublk::batch_io> s{{.seed = 7, .version = with_everything}};
    s.requested.fall_back = false;
    refusing_kernel::what.fetches = true;
    EXPECT_THROW(s.start(), ublk::detail::setup_refused);
    s.expect_clean();
}

TEST(fallback, batches_that_the_driver_lacks_are_told) {
    scene<ublk::batch_io> s{{.seed = 8, .version = without_zero_copy}};
    const ublk::device_info granted = s.start();
    ASSERT_EQ(granted.fallbacks.size(), 1u);
    EXPECT_TRUE(mentions(granted.fallbacks[0], "came with Linux 7.0"));
    s.expect_clean();
}

TEST(fallback, batches_that_must_be_are_an_error_where_the_driver_lacks_them) {
    scene<ublk::batch_io> s{{.seed = 9, .version = without_zero_copy}};
    s.requested.fall_back = false;
    EXPECT_THROW(s.start(), ublk::error);
    s.expect_clean();
}

TEST(fallback, threads_that_may_not_run_where_they_should_serve_all_the_same) {
    scene s{{.seed = 10}};
    refusing_kernel::what.places = true;
    const ublk::device_info granted = s.start();
    ASSERT_EQ(granted.fallbacks.size(), 1u);  // for two threads
    EXPECT_TRUE(mentions(granted.fallbacks[0], "where the scheduler puts them"));
    EXPECT_TRUE(mentions(heard.back(), "where the scheduler puts them"));
    s.expect_clean();
}

TEST(fallback, threads_that_must_run_where_they_should_are_an_error) {
    scene s{{.seed = 11}};
    s.requested.fall_back = false;
    refusing_kernel::what.places = true;
    EXPECT_THROW(s.start(), ublk::error);
    s.expect_clean();
}

// Whichever thread of the set it is, the device may have to do with it.
TEST(fallback, threads_of_a_set_that_may_not_run_where_they_should_are_told) {
    for (const bool insist : {false, true}) {
        ublk::sim::world in{{.seed = 13}};
        refusing_kernel::what = {.places = true};
        {
            const refusing_kernel process{in.boot()};
            const ublk::basic_thread_set<refusing_kernel> threads{{.threads = 2, .cpus = {0}},
                                                                  process};
            options requested;
            requested.queues = 2;
            requested.depth = 4;
            requested.fall_back = !insist;
            ublk::device<file_disk, ublk::pooled, ublk::per_wakeup, refusing_kernel> disk{
                std::make_shared<file_disk>(), threads, requested, process};
            if (insist) {
                EXPECT_THROW(disk.start(), ublk::error);
            } else {
                disk.start();
                const std::vector<std::string> told = disk.info().fallbacks;
                ASSERT_EQ(told.size(), 1u);
                EXPECT_TRUE(mentions(told[0], "the threads of the set run where the scheduler"));
                EXPECT_TRUE(mentions(told[0], "thread_set_options::cpus"));
                disk.stop();
            }
        }
        in.settle();
        EXPECT_TRUE(in.take_violations().empty());
        EXPECT_EQ(in.forget_devices(), 0u);
        EXPECT_EQ(in.on().tasks.tasks(), 0u);
    }
}

TEST(fallback, what_was_granted_is_told_as_such) {
    scene s{{.seed = 12, .version = with_everything}};
    EXPECT_TRUE(s.start().fallbacks.empty());
    s.expect_clean();
}

// Everything else goes wrong, too, at any step of the second start.
TEST(fallback, a_second_start_that_fails_leaves_nothing) {
    unsigned failed = 0;
    for (std::uint64_t call = 1; call < 200 && !::testing::Test::HasFailure(); ++call) {
        conditions given{.seed = 100, .version = without_zero_copy, .lockable_bytes = 4096};
        given.once = {.step = call, .code = ENOMEM};
        scene s{given};
        try {
            (void)s.start();
            EXPECT_EQ(s.disk->info().path, data_path::copy);
        } catch (const ublk::error&) {
            ++failed;
        }
        s.in.on().is.once = {};
        s.expect_clean();
    }
    EXPECT_GT(failed, 20u);
}

}  // namespace
}  // namespace fallback_test
