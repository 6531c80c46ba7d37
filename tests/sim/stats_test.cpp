// SPDX-License-Identifier: MIT

// What a device has counted is what its clients saw.

#include <ublk/event.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/policy/with.hpp>
#include <ublk/sim/laws/worlds.hpp>
#include <ublk/stats.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace stats_test {
namespace {

using namespace ublk;
using namespace std::chrono_literals;

constexpr std::size_t piece = 8192;  ///< of the disk; no request is cut

/// Answers at once, later, with an error or by an exception, as the place on the disk has it.
struct moody {
    [[nodiscard]] static std::uint64_t size() noexcept { return 16 * piece; }
    [[nodiscard]] static int code_at(std::uint64_t offset) noexcept {
        switch (offset / piece % 4) {
        case 2:
            return ENOSPC;
        case 3:
            return EIO;  // by an exception
        default:
            return 0;
        }
    }

    [[nodiscard]] task read(io& with, const request& r, std::span<std::byte>) {
        (void)co_await with.sleep(1ms);
        co_return answer(r);
    }
    [[nodiscard]] result write(const request& r, std::span<const std::byte>) { return answer(r); }
    [[nodiscard]] result flush(const request&) noexcept { return ok; }
    [[nodiscard]] task discard(io& with, const request& r) {
        if (r.offset() / piece % 2 == 0) {
            (void)co_await with.sleep(3ms);
        }
        co_return answer(r);
    }
    [[nodiscard]] result write_zeroes(const request& r) { return answer(r); }

private:
    static result answer(const request& r) {
        const int code = code_at(r.offset());
        if (code == EIO) {
            throw std::runtime_error{"no"};
        }
        return code == 0 ? ok : result::failure(code);
    }
};

/// What clients saw, by operation.
using seen_by_clients = std::array<operation_stats, operation_names.size()>;

class crowd {
public:
    crowd(sim::world& in, std::uint32_t id) : in_{in}, disk_{in, id} {}

    /// Several clients, one request each at a time.
    void use(unsigned clients, unsigned requests) {
        for (unsigned i = 0; i < clients; ++i) {
            ++at_work_;
            (void)in_.on().tasks.spawn("client", [this, requests] {
                for (unsigned n = 0; n < requests; ++n) {
                    ask();
                }
                if (--at_work_ == 0) {
                    in_.on().tasks.wake(finished_);
                }
            });
        }
        while (at_work_ != 0) {
            (void)in_.on().tasks.block(finished_, "the clients");
        }
    }

    seen_by_clients seen{};

private:
    void ask() {
        constexpr std::array kinds{uapi::op::read, uapi::op::write, uapi::op::flush,
                                   uapi::op::discard, uapi::op::write_zeroes};
        const uapi::op op_code = kinds[in_.dice().below(kinds.size())];
        const std::uint64_t length = sector_size * (1 + in_.dice().below(piece / sector_size));
        const std::uint64_t offset = piece * in_.dice().below(moody::size() / piece);
        std::vector<std::byte> data(length);
        const int code = op_code == uapi::op::read      ? disk_.read(offset, data)
                         : op_code == uapi::op::write   ? disk_.write(offset, data)
                         : op_code == uapi::op::flush   ? disk_.flush()
                         : op_code == uapi::op::discard ? disk_.discard(offset, length)
                                                        : disk_.write_zeroes(offset, length);
        operation_stats& mine = seen[static_cast<std::size_t>(kind_of(op_code))];
        ++mine.latency.counts[0];
        EXPECT_EQ(code, op_code == uapi::op::flush ? 0 : moody::code_at(offset));
        mine.errors += code != 0 ? 1 : 0;
        mine.bytes += code != 0 || op_code == uapi::op::flush ? 0 : length;
    }

    sim::world& in_;
    sim::client disk_;
    sim::wait_list finished_;
    unsigned at_work_ = 0;
};

void expect_equal(const stats_snapshot& before, const stats_snapshot& after,
                  const seen_by_clients& seen) {
    const queue_stats old = before.sum();
    const queue_stats now = after.sum();
    for (std::size_t k = 0; k < seen.size(); ++k) {
        const auto name = operation_names[k];
        EXPECT_EQ(now.kinds[k].requests() - old.kinds[k].requests(), seen[k].requests()) << name;
        EXPECT_EQ(now.kinds[k].errors - old.kinds[k].errors, seen[k].errors) << name;
        EXPECT_EQ(now.kinds[k].bytes - old.kinds[k].bytes, seen[k].bytes) << name;
    }
}

template <class QueuePolicy, class BatchPolicy>
using counted = sim::composition<moody, with<QueuePolicy, stats>, BatchPolicy>;

template <class Composition>
class stats_law : public ::testing::Test {};
using compositions = ::testing::Types<counted<per_cpu, per_wakeup>, counted<shared, each>,
                                      counted<interleaved, within>, counted<pooled, batch_io>>;
TYPED_TEST_SUITE(stats_law, compositions);

TYPED_TEST(stats_law, what_is_counted_is_what_clients_saw) {
    sim::in_many_worlds([](sim::conditions given) {
        given.often = {5, 5, 5, 5, 5};
        sim::rig<TypeParam> r{given};
        r.start();
        r.in.settle();  // the search for partitions is over
        const stats_snapshot before = r.server->stats();
        stats_snapshot live;
        {
            crowd clients{r.in, r.server->id()};
            clients.use(4, 40);
            live = r.server->stats();
            expect_equal(before, live, clients.seen);
        }
        r.server->stop();
        const stats_snapshot after = r.server->stats();
        EXPECT_EQ(after.sum().sum().requests(), live.sum().sum().requests());
        EXPECT_EQ(after.sum().in_flight, 0u);
        EXPECT_EQ(after.turns().requests, after.sum().sum().requests());
        EXPECT_GE(after.sum().most_in_flight, 1u);
        for (const queue_stats& each : after.queues) {
            EXPECT_EQ(after.queues.size(), 2u);
            EXPECT_LE(each.most_in_flight, 4u) << "the queue has no more tags";
        }
        const histogram reads = after.sum().of(uapi::op::read).latency;
        EXPECT_GE(reads.quantile(0), 1ms) << "a read sleeps for as long, in simulated time";
        r.end_server();
        std::erase_if(r.told, [](const ublk::event& each) {  // the backend throws on purpose
            return each.type == ublk::event::kind::exception ||
                   each.type == ublk::event::kind::suppressed;
        });
        sim::expect_clean(r);
    });
}

}  // namespace
}  // namespace stats_test
