// SPDX-License-Identifier: MIT

// The simulated world itself: what it reports, that a seed decides everything, and how fast it is.

#include "../support/allocations.hpp"
#include "specimens.hpp"

#include <ublk/control/control_commands.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/rig.hpp>
#include <ublk/sim/workload.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace world_test {
namespace {

using namespace std::chrono_literals;
namespace sim = ublk::sim;
namespace uapi = ublk::uapi;
using simple = sim::composition<memory, ublk::shared, ublk::per_wakeup>;

constexpr ublk::queue_id queue_0{0};
constexpr std::size_t buffer_bytes = 8192;

/// A server by hand, of one queue with two tags, on the thread of the test.
class bare_server {
public:
    explicit bare_server(sim::world& in)
        : in_{in}, self_{in.boot()}, commands_{self_, 60s}, buffers_(2 * buffer_bytes) {
        uapi::dev_info info;
        info.dev_id = uapi::any_dev_id;
        info.nr_hw_queues = 1;
        info.queue_depth = 2;
        info.max_io_buf_bytes = buffer_bytes;
        id = commands_.add_dev(info).dev_id;
        ublk::disk_attributes disk;
        disk.size = 1u << 20;
        commands_.set_params(id, ublk::to_params(disk, buffer_bytes));
        channel_.emplace(self_.open_channel(id, self_.now() + 10s));
        port.emplace(*channel_, wakeup_, ublk::detail::port_needs{.tags = 2});
        for (const std::uint16_t t : {std::uint16_t{0}, std::uint16_t{1}}) {
            port->fetch(queue_0, ublk::tag{t}, address(t),
                        ublk::detail::user_data::io(0, ublk::tag{t}));
        }
        (void)port->flush_and_collect();
    }
    ~bare_server() {
        port.reset();
        channel_.reset();
        in_.settle();
        commands_.stop_dev(id, 60s);
        commands_.del_dev(id);
    }

    [[nodiscard]] std::byte* buffer(unsigned tag) { return &buffers_[tag * buffer_bytes]; }
    [[nodiscard]] ublk::detail::buffer_address address(unsigned tag) {
        return {.memory = reinterpret_cast<std::uintptr_t>(buffer(tag))};
    }

    /// Starts the disk and answers what the search for partitions asks.
    void start() {
        bool started = false;
        sim::thread starter{[&] {
            commands_.start_dev(id, self_.process_id());
            started = true;
        }};
        while (!started) {
            in_.on().tasks.sleep(1ms);
        }
        starter.join();
        serve([this](unsigned tag, int bytes) { commit(tag, bytes); }, 1);
    }

    void commit(unsigned tag, int result) {
        const ublk::tag slot{static_cast<std::uint16_t>(tag)};
        port->commit(queue_0, slot, result, address(tag), ublk::detail::user_data::io(0, slot));
    }

    /// Waits for so many requests of 4096 bytes and answers each by `given(tag, bytes)`.
    template <class How>
    void serve(How given, unsigned requests) {
        while (requests != 0) {
            ASSERT_EQ(port->wait(), 0);
            port->drain([&](ublk::detail::user_data t, int answer) {
                if (t.is_io() && answer == 0) {
                    given(t.tag().value(), 4096);
                    --requests;
                }
            });
        }
        (void)port->flush();
    }

    std::uint32_t id = 0;
    std::optional<sim::kernel::port> port;

private:
    sim::world& in_;
    sim::kernel self_;
    ublk::detail::control_commands<sim::kernel> commands_;
    std::vector<std::byte> buffers_;
    std::optional<sim::kernel::channel> channel_;
    sim::kernel::wakeup wakeup_;
};

bool mentions(const std::vector<std::string>& violations, const std::string& words) {
    return std::any_of(violations.begin(), violations.end(), [&words](const std::string& each) {
        return each.find(words) != std::string::npos;
    });
}

/// What a world says of a server that answers one request of a client in that way.
template <class How>
std::vector<std::string> verdict_on(uapi::op op, How given) {
    sim::world in{{.seed = 3}};
    {
        // They outlive the server, whose end may be what ends the request.
        std::vector<std::byte> data(4096);
        sim::bio requested;
        requested.op = op;
        requested.sectors = 8;
        requested.data = data.data();
        bare_server server{in};
        server.start();
        sim::client disk{in, server.id};
        disk.submit(requested);
        server.serve([&](unsigned tag, int bytes) { given(server, tag, bytes); }, 1);
    }
    return in.take_violations();
}

TEST(world, blames_nobody_for_a_right_answer) {
    for (const uapi::op op : {uapi::op::read, uapi::op::write}) {
        EXPECT_TRUE(verdict_on(op, [](bare_server& s, unsigned tag, int bytes) {
                        s.commit(tag, bytes);
                    }).empty());
    }
}

TEST(world, reports_a_tag_completed_twice) {
    EXPECT_TRUE(mentions(verdict_on(uapi::op::read,
                                    [](bare_server& s, unsigned tag, int bytes) {
                                        s.commit(tag, bytes);
                                        s.commit(tag, bytes);
                                    }),
                         "is refused: Device or resource busy"));
}

TEST(world, reports_a_short_result) {
    for (const uapi::op op : {uapi::op::read, uapi::op::write}) {
        EXPECT_TRUE(
            mentions(verdict_on(op, [](bare_server& s, unsigned tag, int) { s.commit(tag, 512); }),
                     "a short result is committed"));
    }
}

TEST(world, reports_a_result_that_clients_misread) {
    EXPECT_TRUE(mentions(verdict_on(uapi::op::read, [](bare_server& s, unsigned tag,
                                                       int) { s.commit(tag, -EAGAIN); }),
                         "that clients misread"));
}

TEST(world, reports_a_ring_used_by_another_thread) {
    EXPECT_TRUE(mentions(verdict_on(uapi::op::read,
                                    [](bare_server& s, unsigned tag, int bytes) {
                                        s.commit(tag, bytes);
                                        sim::thread other{[&s] { (void)s.port->flush(); }};
                                        other.join();
                                    }),
                         "a thread that did not make it"));
}

#ifdef UBLK_SIM_ASAN
/// Does that with the buffer of a tag, whose request it answers afterwards.
template <class Deed>
void serve_one(Deed deed) {
    (void)verdict_on(uapi::op::read, [&deed](bare_server& s, unsigned tag, int bytes) {
        deed(s, tag);
        s.commit(tag, bytes);
    });
}

TEST(world_death_test, a_touch_of_a_buffer_that_the_driver_has_is_reported_at_once) {
    const auto other_tag = [](bare_server& s, unsigned tag) { *s.buffer(1 - tag) = std::byte{1}; };
    EXPECT_DEATH(serve_one(other_tag), "use-after-poison");
}

TEST(world_death_test, a_touch_beyond_the_request_is_reported_at_once) {
    const auto beyond = [](bare_server& s, unsigned tag) { s.buffer(tag)[4096] = std::byte{1}; };
    EXPECT_DEATH(serve_one(beyond), "use-after-poison");
}
#else
TEST(world, reports_a_buffer_touched_while_the_driver_has_it) {
    sim::world in{{.seed = 3}};
    {
        bare_server server{in};
        server.start();
        sim::client disk{in, server.id};
        *server.buffer(0) = *server.buffer(1) = std::byte{1};
        std::vector<std::byte> data(4096);
        sim::bio requested;
        requested.sectors = 8;
        requested.data = data.data();
        disk.submit(requested);
        server.serve([&](unsigned tag, int bytes) { server.commit(tag, bytes); }, 1);
    }
    EXPECT_TRUE(mentions(in.take_violations(), "was written to while the driver had it"));
}
#endif

TEST(world, reports_a_request_that_is_never_answered) {
    sim::world in{{.seed = 3}};
    {
        bare_server server{in};
        server.start();
        sim::client disk{in, server.id};
        std::vector<std::byte> data(4096);
        EXPECT_EQ(disk.read(0, data), ETIMEDOUT);
        EXPECT_TRUE(
            mentions(in.take_violations(), "hang: a read of 4096 bytes at 0 is not answered"));
    }
    EXPECT_TRUE(in.take_violations().empty());
}

TEST(world, says_who_waits_for_what) {
    sim::world in{{.seed = 1}};
    EXPECT_NE(in.on().tasks.describe_waits().find("main: is running"), std::string::npos);
}

using world_death_test = testing::Test;

TEST(world_death_test, a_world_where_nobody_can_move_ends_the_program) {
    const auto deadlock = [] {
        sim::world in{{.seed = 1}};
        sim::mutex twice;
        twice.lock();
        twice.lock();
    };
    EXPECT_DEATH(deadlock(), "nothing can move any more.*main: waits for a mutex");
}

TEST(world_death_test, violations_that_nobody_asks_for_end_the_program) {
    const auto careless = [] {
        sim::world in{{.seed = 1}};
        in.on().violation("of some kind");
    };
    EXPECT_DEATH(careless(), "violations that nobody asked for");
}

TEST(world_death_test, a_device_that_is_left_ends_the_program) {
    const auto careless = [] {
        sim::world in{{.seed = 1}};
        const sim::kernel self = in.boot();
        ublk::detail::control_commands<sim::kernel> commands{self, 60s};
        uapi::dev_info info;
        info.dev_id = uapi::any_dev_id;
        info.nr_hw_queues = info.queue_depth = 1;
        info.max_io_buf_bytes = buffer_bytes;
        (void)commands.add_dev(info);
    };
    EXPECT_DEATH(careless(), "device 0 is left behind");
}

TEST(world_death_test, a_thread_has_one_world_at_a_time) {
    const auto two = [] {
        sim::world one{{.seed = 1}};
        sim::world other{{.seed = 1}};
    };
    EXPECT_DEATH(two(), "one simulated world at a time");
}

/// Everything that can be seen of a life.
std::string life(std::uint64_t seed) {
    sim::rig<simple> r{{.seed = seed, .often = {5, 5, 5, 5, 5}}};
    r.start();
    std::string seen;
    {
        sim::habits given;
        given.requests = 50;
        sim::workload clients{r.in, r.server->id(), r.expected, given};
        clients.run();
        seen = std::to_string(clients.answered());
    }
    r.server->stop();
    r.in.settle();
    EXPECT_TRUE(r.in.take_violations().empty());
    return seen + " answers, " + std::to_string(r.in.on().steps) + " calls, " +
           std::to_string(r.in.on().tasks.now().time_since_epoch().count()) + " ns, " +
           std::to_string(r.in.dice()());
}

TEST(world, is_decided_by_its_seed) {
    EXPECT_EQ(life(7), life(7));
    EXPECT_NE(life(7), life(8));
}

// What is thrown and caught belongs to a task, also while others throw and catch.
TEST(world, tasks_throw_and_catch_each_for_itself) {
    sim::world in{{.seed = 5}};
    sim::wait_list gate;
    std::string heard;
    const auto thrower = [&](const char* own) {
        try {
            throw std::runtime_error{own};
        } catch (const std::exception&) {
            in.on().tasks.sleep(1ms);
            try {
                throw;
            } catch (const std::exception& again) {
                heard += again.what();
            }
        }
    };
    for (const char* own : {"a", "b", "c"}) {
        (void)in.on().tasks.spawn("thrower", [&, own] { thrower(own); });
    }
    in.settle();
    std::sort(heard.begin(), heard.end());
    EXPECT_EQ(heard, "abc");
}

TEST(world, time_passes_at_once) {
    const auto began = std::chrono::steady_clock::now();
    sim::world in{{.seed = 1}};
    const ublk::detail::deadline before = in.on().tasks.now();
    in.on().tasks.sleep(24h);
    EXPECT_GE(in.on().tasks.now() - before, 24h);
    EXPECT_LT(std::chrono::steady_clock::now() - began, 1h);
}

/// Waits a second for each read, and says by its own clock how long that was.
struct sleeper {
    std::shared_ptr<std::chrono::nanoseconds> slept = std::make_shared<std::chrono::nanoseconds>();
    [[nodiscard]] std::uint64_t size() const noexcept { return 1u << 16; }
    ublk::task read(ublk::io& io, const ublk::request&, std::span<std::byte> out) {
        const auto before = io.now();
        const int code = co_await io.sleep(1s);
        *slept = io.now() - before;
        std::ranges::fill(out, std::byte{0});
        co_return code < 0 ? ublk::result::failure(code) : ublk::ok;
    }
    ublk::result write(const ublk::request&, std::span<const std::byte>) noexcept {
        return ublk::ok;
    }
};

TEST(world, tells_coroutines_its_own_time) {
    const auto began = std::chrono::steady_clock::now();
    sim::world in{{.seed = 3}};
    const sim::kernel process = in.boot();
    ublk::options requested;
    requested.queues = 1;
    requested.max_io_bytes = static_cast<std::uint32_t>(2 * ::sysconf(_SC_PAGESIZE));
    {
        ublk::device<sleeper, ublk::per_cpu, ublk::per_wakeup, sim::kernel> disk{
            sleeper{}, requested, process};
        disk.start();
        std::vector<std::byte> block(512);
        EXPECT_EQ((sim::client{in, disk.id()}.read(0, block)), 0);
        EXPECT_GE(*disk.backend().slept, 1s);
        EXPECT_LT(*disk.backend().slept, 10s);
        disk.stop();
    }
    EXPECT_LT(std::chrono::steady_clock::now() - began, 1h);
    in.settle();
    EXPECT_TRUE(in.take_violations().empty());
}

// How many instructions that takes, tests/instructions counts.
TEST(world, starts_serves_and_stops_with_few_allocations) {
    if (!ublk::test::allocations_are_counted()) {
        GTEST_SKIP() << "this program has another operator new";
    }
    std::uint64_t most = 0;
    for (std::uint64_t seed = 1; seed <= 21; ++seed) {
        const std::uint64_t before = ublk::test::allocations;
        sim::rig<simple> r{{.seed = seed}};
        r.start();
        std::vector<std::byte> data(4096);
        {
            sim::client disk{r.in, r.server->id()};
            EXPECT_EQ(disk.write(0, data), 0);
            EXPECT_EQ(disk.read(0, data), 0);
        }
        r.server->stop();
        most = std::max<std::uint64_t>(most, ublk::test::allocations - before);
    }
    EXPECT_LE(most, 200u);
}

}  // namespace
}  // namespace world_test
