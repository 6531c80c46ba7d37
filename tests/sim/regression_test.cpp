// SPDX-License-Identifier: MIT

// Mistakes that servers of other people made and that the laws do not see, each on a simulated
// driver. tests/bugs/ plants them once more.

#include <ublk/event.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/sim/medium.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace regression_test {
namespace {

using namespace ublk::sim;
using namespace std::chrono_literals;
using ublk::event;
using ublk::options;
using ublk::request;
using ublk::result;
namespace uapi = ublk::uapi;

std::uint32_t page() {
    return static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
}

struct oddities {
    unsigned depth_max = uapi::max_queue_depth;  ///< ADD_DEV grants no more
    bool refuses_a_fetch = false;                ///< of queue 1 tag 2
    bool refuses_commits = false;
    std::chrono::seconds second_thread_late{0};
};

/// A kernel that is odder than the simulated ones, as far as `is` says so.
class odd_kernel : public kernel {
public:
    static inline oddities is;
    static inline unsigned threads = 0;  ///< that came to serve

    odd_kernel(const kernel& plain) : kernel{plain} {}

    bool enter_queue_thread(const ublk::cpu_set& cpus) const noexcept {
        if (++threads == 2 && is.second_thread_late != 0s) {
            in().on().tasks.sleep(is.second_thread_late);
        }
        return kernel::enter_queue_thread(cpus);
    }

    class control : public kernel::control {
    public:
        explicit control(kernel::control&& plain) : kernel::control{std::move(plain)} {}

        [[nodiscard]] ublk::detail::control_ticket begin(ublk::detail::control_command command) {
            if (command.op == uapi::ctrl::add_dev) {
                uapi::dev_info requested;
                std::memcpy(&requested, command.payload, sizeof requested);
                requested.queue_depth = static_cast<std::uint16_t>(
                    std::min<unsigned>(requested.queue_depth, is.depth_max));
                std::memcpy(command.payload, &requested, sizeof requested);
            }
            return kernel::control::begin(command);
        }
    };
    [[nodiscard]] control open_control() const { return control{kernel::open_control()}; }

    class port : public kernel::port {
    public:
        using kernel::port::port;

        void fetch(ublk::queue_id queue, ublk::tag slot, ublk::detail::buffer_address buffer,
                   ublk::detail::user_data t) noexcept {
            const bool refused = is.refuses_a_fetch && queue.value() == 1 && slot.value() == 2;
            kernel::port::fetch(refused ? no_queue : queue, slot, buffer, t);
        }
        void commit(ublk::queue_id queue, ublk::tag slot, int result,
                    ublk::detail::buffer_address buffer, ublk::detail::user_data t) noexcept {
            kernel::port::commit(is.refuses_commits ? no_queue : queue, slot, result, buffer, t);
        }

    private:
        static constexpr ublk::queue_id no_queue{4000};
    };
};

/// Stores nothing, remembers what it is asked, and answers as it is told.
struct scripted_disk {
    static constexpr bool fua = true;

    [[nodiscard]] std::uint64_t size() const noexcept { return bytes; }
    [[nodiscard]] std::uint64_t max_discard_size() const noexcept { return discard_max; }
    [[nodiscard]] std::uint64_t max_write_zeroes_size() const noexcept { return zeroes_max; }

    result read(const request& r, std::span<std::byte> out) {
        std::ranges::fill(out, std::byte{0});
        return told(r);
    }
    result write(const request& r, std::span<const std::byte>) { return told(r); }
    result flush(const request& r) { return told(r); }
    result discard(const request& r) { return told(r); }
    result write_zeroes(const request& r) { return told(r); }

    [[nodiscard]] std::vector<request> asked_for(uapi::op op_code) const {
        std::vector<request> found;
        std::ranges::copy_if(requested, std::back_inserter(found),
                             [op_code](const request& r) { return r.op() == op_code; });
        return found;
    }

    std::uint64_t bytes = 1u << 20;
    std::uint64_t discard_max = 1u << 20;
    std::uint64_t zeroes_max = 1u << 20;
    std::function<result(const request&)> answer;
    std::vector<request> requested;

private:
    result told(const request& r) {
        requested.push_back(r);
        return answer ? answer(r) : ublk::ok;
    }
};

/// No more than a backend must have.
struct plain_disk {
    [[nodiscard]] std::uint64_t size() const noexcept { return 1u << 20; }
    result read(const request&, std::span<std::byte> out) noexcept {
        std::ranges::fill(out, std::byte{0});
        return ublk::ok;
    }
    result write(const request&, std::span<const std::byte>) noexcept { return ublk::ok; }
};

struct disk_of_pages : cached_disk {
    disk_of_pages() : cached_disk{std::make_shared<medium>(256u << 10, page())} {}
};

template <class Backend>
struct oddly {
    using backend = Backend;
    using device = ublk::device<Backend, ublk::per_cpu, ublk::per_wakeup, odd_kernel>;
};

/// A world in which a disk is served.
template <class Backend>
struct scene : rig<oddly<Backend>> {
    using base = rig<oddly<Backend>>;

    explicit scene(const conditions& given, const oddities& odd = {}) : base{given} {
        odd_kernel::is = odd;
        odd_kernel::threads = 0;
    }
    ~scene() { odd_kernel::is = {}; }

    void start(const options& requested) {
        this->server = std::make_unique<typename base::device>(
            this->store, requested, this->process.emplace_back(this->in.boot()));
        this->server->start();
    }
    using base::start;

    [[nodiscard]] client open() { return client{this->in, this->server->id()}; }

    void work() { work(this->server->id()); }
    void work(std::uint32_t id) {
        habits usual;
        usual.requests = 40;
        usual.blocks_max = 5;
        workload clients{this->in, id, this->expected, usual};
        clients.run();
        clients.read_all();
    }

    /// How many milliseconds that takes in the world.
    template <class Do>
    std::int64_t time(Do step) {
        const ublk::detail::deadline before = this->in.on().tasks.now();
        step();
        return std::chrono::duration_cast<std::chrono::milliseconds>(this->in.on().tasks.now() -
                                                                     before)
            .count();
    }
};

constexpr uapi::op all_ops[] = {uapi::op::read, uapi::op::write, uapi::op::flush, uapi::op::discard,
                                uapi::op::write_zeroes};

/// One of each operation, far from what a search for partitions reads.
int perform(client& disk, uapi::op op_code) {
    std::vector<std::byte> data(4096, std::byte{7});
    constexpr std::uint64_t offset = 128u << 10;
    switch (op_code) {
    case uapi::op::read:
        return disk.read(offset, data);
    case uapi::op::write:
        return disk.write(offset, data);
    case uapi::op::flush:
        return disk.flush();
    case uapi::op::discard:
        return disk.discard(offset, data.size());
    default:
        return disk.write_zeroes(offset, data.size());
    }
}

/// The end of a law in which a server is to tell that.
template <class Scene>
void expect_clean_but_for(event::kind told, Scene& s) {
    s.end_server();
    EXPECT_NE(std::erase_if(s.told, [told](const event& each) { return each.type == told; }), 0u)
        << "an event is missing";
    expect_clean(s);
}

TEST(regression, flags_of_a_request_reach_the_backend) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.start();
        {
            client disk = s.open();
            const std::vector<std::byte> data(4096);
            EXPECT_EQ(disk.write(0, data), 0);
            EXPECT_EQ(disk.write(0, data, uapi::io_flag::fua | uapi::io_flag::meta), 0);
            EXPECT_EQ(disk.write_zeroes(0, data.size()), 0);
            EXPECT_EQ(disk.write_zeroes(0, data.size(), uapi::io_flag::nounmap), 0);
        }
        const auto writes = s.store->asked_for(uapi::op::write);
        const auto zeroes = s.store->asked_for(uapi::op::write_zeroes);
        ASSERT_EQ(writes.size(), 2u);
        ASSERT_EQ(zeroes.size(), 2u);
        EXPECT_FALSE(writes[0].fua() || writes[0].meta());
        EXPECT_TRUE(writes[1].fua() && writes[1].meta());
        EXPECT_FALSE(zeroes[0].no_unmap());
        EXPECT_TRUE(zeroes[1].no_unmap());
        expect_clean(s);
    });
}

TEST(regression, an_errno_reaches_the_client_as_it_is) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.start();
        for (const int code : {ENOSPC, EIO, ENOMEM, EOPNOTSUPP}) {
            s.store->answer = [code](const request& r) {
                return r.offset() == 0 && r.op() == uapi::op::read ? result{}
                                                                   : result::failure(code);
            };
            client disk = s.open();
            for (const uapi::op each : all_ops) {
                EXPECT_EQ(perform(disk, each), code) << "operation " << static_cast<int>(each);
            }
        }
        expect_clean(s);
    });
}

/// The client's kernel would retry at once and for ever, or take it for something else.
TEST(regression, an_errno_that_clients_misread_becomes_EIO) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.start();
        for (const int code : {EAGAIN, EINTR, EREMCHG, 5000, 0}) {
            s.store->answer = [code](const request&) { return result::failure(code); };
            client disk = s.open();
            for (const uapi::op each : all_ops) {
                EXPECT_EQ(perform(disk, each), EIO) << code;
            }
        }
        expect_clean(s);
    });
}

TEST(regression, what_a_backend_throws_is_the_error_of_one_request) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.start();
        for (int i = 0; i < 3; ++i) {
            client disk = s.open();
            s.store->answer = [](const request&) -> result { throw std::runtime_error{"no"}; };
            for (const uapi::op each : all_ops) {
                EXPECT_EQ(perform(disk, each), EIO) << "operation " << static_cast<int>(each);
            }
            s.store->answer = nullptr;
            for (const uapi::op each : all_ops) {
                EXPECT_EQ(perform(disk, each), 0) << "operation " << static_cast<int>(each);
            }
        }
        expect_clean_but_for(event::kind::exception, s);
    });
}

TEST(regression, what_a_backend_lacks_is_not_advertised) {
    in_many_worlds([](const conditions& given) {
        scene<plain_disk> s{given};
        s.start();
        {
            client disk = s.open();
            EXPECT_FALSE(disk.limits().volatile_cache || disk.limits().fua);
            EXPECT_EQ(disk.limits().max_discard, 0u);
            EXPECT_EQ(disk.limits().max_write_zeroes, 0u);
            EXPECT_EQ(perform(disk, uapi::op::discard), EOPNOTSUPP);
            EXPECT_EQ(perform(disk, uapi::op::write_zeroes), EOPNOTSUPP);
            EXPECT_EQ(perform(disk, uapi::op::flush), 0);
        }
        expect_clean(s);
    });
}

TEST(regression, no_request_is_longer_than_the_backend_takes) {
    in_many_worlds([](const conditions& given) {
        constexpr std::uint64_t length = 64u << 10;
        scene<scripted_disk> s{given};
        s.store->discard_max = 8192;
        s.store->zeroes_max = 4096;
        s.start();
        {
            client disk = s.open();
            EXPECT_EQ(disk.discard(0, length), 0);
            EXPECT_EQ(disk.write_zeroes(0, length), 0);
        }
        for (const auto& [op_code, most] :
             {std::pair{uapi::op::discard, 8192u}, std::pair{uapi::op::write_zeroes, 4096u}}) {
            std::uint64_t sum = 0;
            for (const request& each : s.store->asked_for(op_code)) {
                EXPECT_LE(each.length(), most) << "operation " << static_cast<int>(op_code);
                sum += each.length();
            }
            EXPECT_EQ(sum, length);
        }
        expect_clean(s);
    });
}

TEST(regression, blocks_may_be_larger_than_sectors) {
    in_many_worlds([](const conditions& given) {
        scene<disk_of_pages> s{given};
        s.start();
        EXPECT_EQ(s.open().size(), s.store->size());
        EXPECT_EQ(s.open().block_size(), page());
        s.work();
        expect_clean(s);
    });
}

TEST(regression, a_disk_may_be_larger_than_32_bits_of_sectors) {
    in_many_worlds([](const conditions& given) {
        world in{given};
        auto store = std::make_shared<scripted_disk>();
        store->bytes = 1ull << 43;
        oddly<scripted_disk>::device server{store, options{.queues = 1, .depth = 2}, in.boot()};
        server.start();
        const std::uint64_t offset = (1ull << 42) + (3ull << 32) + 4096;
        const std::vector<std::byte> data(4096);
        EXPECT_EQ((client{in, server.id()}.size()), store->bytes);
        EXPECT_EQ((client{in, server.id()}.write(offset, data)), 0);
        const auto writes = store->asked_for(uapi::op::write);
        ASSERT_EQ(writes.size(), 1u);
        EXPECT_EQ(writes[0].offset(), offset);
        server.stop();
    });
}

TEST(regression, what_counts_is_what_was_granted) {
    in_many_worlds([](conditions given) {
        given.cpus = 2;
        scene<disk_of_pages> s{given, {.depth_max = 3}};
        options requested = s.small();
        requested.queues = 5;
        requested.depth = 7;
        requested.max_io_bytes = 2 * page() + ublk::sector_size;
        s.start(requested);
        EXPECT_EQ(s.server->info().queues, 2u);
        EXPECT_EQ(s.server->info().depth, 3u);
        EXPECT_EQ(s.server->info().max_io_bytes, 2 * page());
        s.work();
        expect_clean(s);
    });
}

/// Unnoticed, START_DEV would wait for that tag until its deadline, and say nothing of the cause.
TEST(regression, a_refused_fetch_fails_the_start) {
    in_many_worlds([](conditions given) {
        given.strict = false;
        scene<scripted_disk> s{given, {.refuses_a_fetch = true}};
        std::string step;
        const auto took = s.time([&] {
            try {
                s.start();
            } catch (const ublk::error& refused) {
                step = refused.command();
                EXPECT_EQ(refused.errno_value(), EINVAL);
            }
        });
        EXPECT_EQ(step, "FETCH_REQ");
        EXPECT_LT(took, 5000);
        EXPECT_EQ(s.in.devices(), 0u) << "a start that failed leaves a device behind";
        expect_clean(s);
    });
}

/// Its request would stay with the server for ever, and its client with it.
TEST(regression, a_refused_commit_ends_the_server) {
    in_many_worlds([](conditions given) {
        given.strict = false;
        scene<scripted_disk> s{given};
        s.start();
        s.in.settle();
        {
            client disk = s.open();
            EXPECT_EQ(perform(disk, uapi::op::write), 0);
            odd_kernel::is.refuses_commits = true;
            EXPECT_EQ(perform(disk, uapi::op::write), EIO);
        }
        s.in.settle();
        EXPECT_EQ(s.server->state(), ublk::device_state::failed);
        EXPECT_THROW(s.server->wait({}), ublk::error);
        expect_clean_but_for(event::kind::thread_lost, s);
    });
}

/// It is told to leave before it has anything that could be told.
TEST(regression, a_thread_that_comes_too_late_leaves_at_once) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given, {.second_thread_late = 15s}};
        EXPECT_THROW(s.start(), ublk::error);
        EXPECT_EQ(s.in.devices(), 0u) << "a start that failed leaves a device behind";
        expect_clean(s);
    });
}

TEST(regression, start_and_stop_wait_for_no_deadline) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        EXPECT_LT(s.time([&] { s.start(); }), 500);
        EXPECT_LT(s.time([&] { s.server->stop(); }), 500);
        EXPECT_EQ(s.in.devices(), 0u) << "the number is not free when stop() returns";
        expect_clean(s);
    });
}

/// However long all of it takes: the deadline of a stop is for a backend that answers no more.
TEST(regression, a_slow_backend_that_answers_loses_nothing_at_its_stop) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.store->answer = [](const request& r) {
            if (r.op() == uapi::op::write) {
                scheduler::here()->sleep(3s);
            }
            return ublk::ok;
        };
        options requested = s.small();
        requested.queues = 1;
        requested.stop_deadline = 5s;
        s.start(requested);
        unsigned written = 0;
        for (unsigned i = 0; i < 8; ++i) {
            (void)s.in.on().tasks.spawn("client", [&] {
                client disk = s.open();
                written += perform(disk, uapi::op::write) == 0 ? 1 : 0;
            });
        }
        s.in.on().tasks.sleep(1ms);
        EXPECT_NO_THROW(s.server->stop());
        EXPECT_EQ(written, 8u);
        expect_clean(s);
    });
}

/// Values that stand for ever, and those that would end beyond what a clock can tell.
TEST(regression, a_deadline_that_never_passes_is_none) {
    for (const ublk::time_limit limit :
         {ublk::no_deadline, ublk::time_limit{std::chrono::milliseconds::max()},
          ublk::time_limit{std::chrono::hours::max()}, ublk::time_limit{300 * 8766h}}) {
        in_many_worlds([limit](const conditions& given) {
            scene<scripted_disk> s{given};
            options requested = s.small();
            requested.command_deadline = limit;
            requested.stop_deadline = limit;
            s.start(requested);
            {
                client disk = s.open();
                EXPECT_EQ(perform(disk, uapi::op::write), 0);
            }
            s.server->stop();
            expect_clean(s);
        });
    }
}

/// What the backend has not begun when the deadline passes is answered all the same.
TEST(regression, a_slow_backend_does_not_make_stop_hang) {
    in_many_worlds([](const conditions& given) {
        scene<scripted_disk> s{given};
        s.store->answer = [](const request& r) {
            if (r.op() == uapi::op::write) {
                scheduler::here()->sleep(8s);
            }
            return ublk::ok;
        };
        options requested = s.small();
        requested.stop_deadline = 5s;
        s.start(requested);
        unsigned answered = 0;
        unsigned refused = 0;
        for (unsigned i = 0; i < 8; ++i) {
            (void)s.in.on().tasks.spawn("client", [&] {
                client disk = s.open();
                const int code = perform(disk, uapi::op::write);
                answered += code == 0 || code == EIO ? 1 : 0;
                refused += code == EIO ? 1 : 0;
            });
        }
        s.in.on().tasks.sleep(1ms);
        try {
            s.server->stop();
            ADD_FAILURE() << "stop() keeps its deadline to itself";
        } catch (const ublk::error& late) {
            EXPECT_EQ(late.errno_value(), ETIMEDOUT);
            const std::string bytes = std::to_string(refused * page());
            EXPECT_NE(late.remedy().find("writes of " + bytes + " bytes were failed"),
                      std::string::npos)
                << late.what() << ", and " << refused << " clients got EIO";
        }
        EXPECT_EQ(answered, 8u);
        expect_clean(s);
    });
}

/// The library does not ask for longer descriptors yet, but its threads serve them.
TEST(regression, descriptors_may_be_longer_than_the_known_part) {
    in_many_worlds([](conditions given) {
        given.version = {7, 3};
        scene<disk_of_pages> s{given};
        const odd_kernel process = s.in.boot();
        ublk::detail::control_commands<odd_kernel> commands{process, 10s};
        uapi::dev_info ask;
        ask.dev_id = uapi::any_dev_id;
        ask.nr_hw_queues = 2;
        ask.queue_depth = 4;
        ask.max_io_buf_bytes = 2 * page();
        ask.flags = uapi::feature::io_desc_size;
        ask.io_desc_size = 64;
        const uapi::dev_info granted = commands.add_dev(ask);
        ASSERT_EQ(granted.io_desc_size, 64u);
        const std::uint32_t id = granted.dev_id;
        commands.set_params(id, ublk::to_params(s.disk, granted.max_io_buf_bytes));

        ublk::device_info info;
        info.id = id;
        info.queues = granted.nr_hw_queues;
        info.depth = granted.queue_depth;
        info.max_io_bytes = granted.max_io_buf_bytes;
        info.io_desc_size = granted.io_desc_size;
        const auto threads = std::make_shared<ublk::detail::queue_threads<odd_kernel>>(
            process,
            ublk::detail::device_ops_of<disk_of_pages, ublk::per_cpu, ublk::per_wakeup, odd_kernel>(
                s.store),
            process.open_channel(id, ublk::detail::from_now(process, 10s)),
            ublk::detail::device_setup{.granted = info,
                                       .page_size = page(),
                                       .requested = {},
                                       .affinity = ublk::detail::fixed_array<ublk::cpu_set>{2},
                                       .shape = {.queues = info.queues, .depth = info.depth}});
        threads->start();
        ASSERT_TRUE(threads->ready(ublk::detail::from_now(process, 10s)));
        commands.start_dev(id, process.process_id());
        threads->start_resolved();
        s.work(id);
        commands.stop_dev(id, 10s);
        EXPECT_TRUE(threads->gone(ublk::detail::from_now(process, 10s)));
        threads->join();
        commands.del_dev(id);
        expect_clean(s);
    });
}

}  // namespace
}  // namespace regression_test
