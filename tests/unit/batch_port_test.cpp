// SPDX-License-Identifier: MIT
#include <ublk/data/batch_port.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace batch_port_test {
namespace {

using ublk::queue_id;
using ublk::tag;
using ublk::detail::user_data;
namespace uapi = ublk::uapi;

/// Writes down what it is asked to carry, and brings the events that a test has put there.
struct recording_wire {
    struct command {
        unsigned elements = 0;
        bool single = false;
        user_data ud{0};
    };
    struct event {
        user_data ud{0};
        int answer = 0;
    };

    static inline std::vector<command> commits{};
    static inline std::vector<event> events{};
    static inline unsigned awaited = 0;

    recording_wire(int, int, const ublk::detail::port_needs&) {
        commits.clear();
        events.clear();
    }
    void prepare_tags(const uapi::batch_io&, const void*, user_data) {}
    void fetch_tags(queue_id, std::uint16_t, user_data) {}
    void commit_tags(const uapi::batch_io& header, const void*, user_data ud) {
        commits.push_back({header.nr_elem, false, ud});
    }
    void commit_single(const uapi::batch_io& header, const void*, user_data ud) {
        commits.push_back({header.nr_elem, true, ud});
    }
    int flush_and_collect() { return 0; }
    int wait(unsigned count) {
        awaited = count;
        return 0;
    }
    [[nodiscard]] static std::span<const std::uint16_t> tags(std::uint16_t, int, std::uint32_t) {
        return {};
    }
    void give_back(std::uint16_t, int, std::uint32_t) {}
    [[nodiscard]] static bool goes_on(std::uint32_t) { return false; }
    template <class Consume>
    void drain(Consume&& consume) {
        for (const event& each : std::exchange(events, {})) {
            consume(each.ud, each.answer, 0u);
        }
    }
};

class batch_port : public ::testing::Test {
protected:
    using wire = recording_wire;

    batch_port() {
        for (std::uint16_t i = 0; i < depth; ++i) {
            port_.fetch(queue, tag{i}, {}, user_data::io(0, tag{i}));
        }
        (void)port_.flush_and_collect();
    }

    void commit(std::uint16_t t) { port_.commit(queue, tag{t}, 512, {}, user_data::io(0, tag{t})); }

    /// What the port tells the server of these events.
    std::vector<std::pair<user_data, int>> told(std::vector<wire::event> events) {
        wire::events = std::move(events);
        std::vector<std::pair<user_data, int>> found;
        port_.drain([&](user_data ud, int answer) { found.emplace_back(ud, answer); });
        return found;
    }

    /// Hands over what was committed; of which commands, and for how many events the thread waits.
    void expect_commits(std::vector<std::pair<unsigned, bool>> expected, unsigned awaited) {
        wire::commits.clear();
        EXPECT_EQ(port_.wait(), 0);
        std::vector<std::pair<unsigned, bool>> found;
        for (const wire::command& each : wire::commits) {
            found.emplace_back(each.elements, each.single);
        }
        EXPECT_EQ(found, expected);
        EXPECT_EQ(wire::awaited, awaited);
    }

    static constexpr unsigned depth = 4;
    static constexpr queue_id queue{0};
    const std::array<queue_id, 1> queues_{queue};
    ublk::detail::batch_port<wire, false> port_{
        0, 0, {.tags = depth, .queues = queues_, .depth = depth}};
};

TEST_F(batch_port, a_single_commit_has_no_event_to_wait_for) {
    for (std::uint16_t turn = 0; turn < 3 * depth; ++turn) {
        commit(turn % depth);
        expect_commits({{1, true}}, 1);
        EXPECT_TRUE(told({}).empty());
    }
    expect_commits({}, 1);
}

TEST_F(batch_port, several_commits_have_one) {
    commit(0);
    commit(1);
    expect_commits({{2, false}}, 2);
    EXPECT_TRUE(told({{wire::commits[0].ud, 2 * int{sizeof(uapi::elem_header)}}}).empty());
    commit(2);
    expect_commits({{1, true}}, 1);
}

// Their elements are counted in the order of the commands.
TEST_F(batch_port, a_single_commit_behind_unanswered_ones_is_answered_too) {
    commit(0);
    commit(1);
    expect_commits({{2, false}}, 2);
    commit(2);
    expect_commits({{1, false}}, 3);
}

TEST_F(batch_port, a_refused_single_commit_is_told_by_its_tag) {
    commit(0);
    expect_commits({{1, true}}, 1);
    commit(3);
    expect_commits({{1, true}}, 1);
    const auto found = told({{wire::commits[0].ud, -EBUSY}});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].first, user_data::io(0, tag{3}));
    EXPECT_EQ(found[0].second, -EBUSY);
}

// The driver takes it and is never going to tell of its tag again.
TEST_F(batch_port, what_is_committed_after_the_end_is_answered_with_the_end) {
    const auto end = told({{user_data::batch(user_data::batch_kind::fetched, 0), -ENODEV}});
    ASSERT_EQ(end.size(), 1u);
    commit(1);
    expect_commits({{1, false}}, 2);
    const auto found = told({{wire::commits[0].ud, int{sizeof(uapi::elem_header)}}});
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].first, user_data::io(0, tag{1}));
    EXPECT_EQ(found[0].second, uapi::io_res_abort);
}

}  // namespace
}  // namespace batch_port_test
