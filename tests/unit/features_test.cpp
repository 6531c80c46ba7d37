// SPDX-License-Identifier: MIT
#include <ublk/features.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>

namespace features_test {
namespace {

namespace feature = ublk::uapi::feature;
using ublk::conflict;
using ublk::describe;
using ublk::feature_outcome;
using ublk::kernel_version;

// conflict() and since() serve static_asserts too.
static_assert(!conflict(feature::user_copy | feature::batch_io));
static_assert(conflict(feature::quiesce));
static_assert(ublk::since(feature::batch_io) == kernel_version{7, 0});

TEST(features, every_bit_has_one_name_of_its_own) {
    std::set<std::string_view> names;
    for (const auto& each : ublk::feature_infos) {
        EXPECT_TRUE(names.insert(each.name).second) << each.name;
    }
    EXPECT_EQ(names.size(), 21u);
    EXPECT_EQ(ublk::known_features, (std::uint64_t{1} << 21) - 1);
}

TEST(features, flags_are_described_in_the_kernels_words) {
    EXPECT_EQ(describe(0), "none");
    EXPECT_EQ(describe(feature::user_copy), "USER_COPY");
    EXPECT_EQ(describe(feature::user_copy | feature::batch_io | 1ull << 33),
              "USER_COPY|BATCH_IO|bit 33");
    EXPECT_EQ(describe(feature::support_zero_copy | feature::io_desc_size | 1ull << 63),
              "SUPPORT_ZERO_COPY|IO_DESC_SIZE|bit 63");
    EXPECT_EQ(describe(1ull << 21), "bit 21");
}

TEST(features, a_set_of_flags_is_as_old_as_its_newest) {
    EXPECT_EQ(ublk::since(0), (kernel_version{0, 0}));
    EXPECT_EQ(ublk::since(feature::need_get_data), (kernel_version{6, 0}));
    EXPECT_EQ(ublk::since(feature::user_copy | feature::zoned), (kernel_version{6, 6}));
    EXPECT_EQ(ublk::since(feature::user_copy | feature::quiesce), (kernel_version{6, 16}));
    EXPECT_EQ(ublk::since(ublk::known_features), (kernel_version{7, 3}));
    EXPECT_EQ(ublk::since(feature::user_copy | 1ull << 40), std::nullopt);
    EXPECT_LT((kernel_version{6, 9}), (kernel_version{6, 16}));
    EXPECT_LT((kernel_version{6, 12}), (kernel_version{6, 12, 1}));
    EXPECT_LT((kernel_version{6, 12, 117}), (kernel_version{6, 13}));
    EXPECT_EQ((kernel_version{6, 12}.text()), "6.12");
    EXPECT_EQ((kernel_version{6, 12, 117}.text()), "6.12.117");
}

TEST(features, what_the_driver_always_sets_is_known) {
    EXPECT_EQ(ublk::always_on_features, feature::uring_cmd_comp_in_task |
                                            feature::cmd_ioctl_encode | feature::per_io_daemon |
                                            feature::buf_reg_off_daemon | feature::safe_stop_dev);
}

TEST(features, a_conflict_names_its_flag_and_says_why) {
    for (const auto& rule : ublk::feature_rules) {
        const std::uint64_t broken = rule.needs ? rule.flag : rule.flag | rule.others;
        EXPECT_TRUE(rule.violated_by(broken)) << rule.sentence;
        EXPECT_FALSE(rule.violated_by(0)) << rule.sentence;
        EXPECT_FALSE(rule.violated_by(rule.others)) << rule.sentence;
        EXPECT_EQ(rule.sentence.find(describe(rule.flag)), 0u) << rule.sentence;
        EXPECT_TRUE(conflict(broken)) << rule.sentence;
        for (const auto& other : ublk::feature_infos) {
            if ((rule.others & other.flag) != 0) {
                EXPECT_NE(rule.sentence.find(other.name), std::string_view::npos) << rule.sentence;
            }
        }
    }
    EXPECT_EQ(conflict(feature::quiesce)->sentence,
              "QUIESCE needs USER_RECOVERY: only a recoverable device outlives its server");
    EXPECT_EQ(conflict(feature::shmem_zc | feature::need_get_data)->outcome,
              feature_outcome::unsafe);
}

TEST(features, flags_newer_than_the_table_break_no_rule) {
    EXPECT_FALSE(conflict(1ull << 40));
}

// What Linux 7.3 does with add_dev's flags, in the order it does it; nothing when it refuses.
std::optional<std::uint64_t> granted_by_driver(std::uint64_t flags) {
    const auto has = [&flags](std::uint64_t any) { return (flags & any) != 0; };
    constexpr std::uint64_t no_kernel_copy =
        feature::user_copy | feature::support_zero_copy | feature::auto_buf_reg;

    const std::uint64_t recovery =
        flags &
        (feature::user_recovery | feature::user_recovery_reissue | feature::user_recovery_fail_io);
    if (recovery != 0 && recovery != feature::user_recovery &&
        recovery != (feature::user_recovery | feature::user_recovery_reissue) &&
        recovery != (feature::user_recovery | feature::user_recovery_fail_io)) {
        return std::nullopt;
    }
    if (has(feature::quiesce) && !has(feature::user_recovery)) {
        return std::nullopt;
    }
    if (has(feature::unprivileged_dev)) {
        flags &= ~(feature::user_recovery | feature::user_recovery_reissue);
        if (has(no_kernel_copy)) {
            return std::nullopt;
        }
    }
    if (has(feature::integrity) && !has(feature::user_copy)) {
        return std::nullopt;
    }
    if (has(feature::batch_io)) {
        flags &= ~feature::per_io_daemon;
    }
    if (has(no_kernel_copy | feature::batch_io)) {
        flags &= ~feature::need_get_data;
    }
    if (has(feature::zoned) && !has(feature::user_copy | feature::support_zero_copy)) {
        return std::nullopt;
    }
    return flags;
}

// Compares the rules with the driver for every combination of the flags the driver looks at.
TEST(features, the_rules_predict_the_driver_for_every_combination) {
    constexpr std::array relevant{feature::support_zero_copy,
                                  feature::need_get_data,
                                  feature::user_recovery,
                                  feature::user_recovery_reissue,
                                  feature::user_copy,
                                  feature::unprivileged_dev,
                                  feature::user_recovery_fail_io,
                                  feature::zoned,
                                  feature::auto_buf_reg,
                                  feature::quiesce,
                                  feature::per_io_daemon,
                                  feature::batch_io,
                                  feature::integrity};
    for (std::uint64_t choice = 0; choice < std::uint64_t{1} << relevant.size(); ++choice) {
        std::uint64_t flags = 0;
        for (std::size_t at = 0; at < relevant.size(); ++at) {
            flags |= (choice >> at & 1) != 0 ? relevant[at] : 0;
        }
        bool refused = false;
        std::uint64_t dropped = 0;
        for (const auto& rule : ublk::feature_rules) {
            if (rule.violated_by(flags)) {
                refused |= rule.outcome == feature_outcome::refused;
                dropped |= rule.outcome == feature_outcome::dropped ? rule.flag : 0;
            }
        }
        const auto granted = granted_by_driver(flags);
        ASSERT_EQ(refused, !granted.has_value()) << describe(flags);
        if (granted) {
            ASSERT_EQ(flags & ~dropped, *granted) << describe(flags);
        }
        ASSERT_EQ(conflict(flags).has_value(), refused || dropped != 0) << describe(flags);
    }
}

}  // namespace
}  // namespace features_test
