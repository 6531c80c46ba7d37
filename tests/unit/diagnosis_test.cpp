// SPDX-License-Identifier: MIT
#include <ublk/control/diagnosis.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

namespace diagnosis_test {
namespace {

using ublk::detail::command_name;
using ublk::detail::diagnose;
namespace ctrl = ublk::uapi::ctrl;

constexpr std::uint32_t commands[] = {ctrl::get_queue_affinity,
                                      ctrl::get_dev_info,
                                      ctrl::get_dev_info2,
                                      ctrl::add_dev,
                                      ctrl::del_dev,
                                      ctrl::del_dev_async,
                                      ctrl::start_dev,
                                      ctrl::stop_dev,
                                      ctrl::set_params,
                                      ctrl::get_params,
                                      ctrl::get_features,
                                      ctrl::start_user_recovery,
                                      ctrl::end_user_recovery,
                                      ctrl::quiesce_dev,
                                      ctrl::update_size,
                                      ctrl::try_stop_dev,
                                      ctrl::reg_buf,
                                      ctrl::unreg_buf};

static_assert(!diagnose(ctrl::add_dev, EEXIST).cause.empty());

TEST(diagnosis, commands_have_the_kernels_names) {
    std::set<std::string_view> names;
    for (const std::uint32_t op : commands) {
        EXPECT_TRUE(names.insert(command_name(op)).second) << command_name(op);
    }
    EXPECT_EQ(command_name(ctrl::add_dev), "ADD_DEV");
    EXPECT_EQ(command_name(ctrl::del_dev_async), "DEL_DEV_ASYNC");
    EXPECT_EQ(command_name(ctrl::get_dev_info2), "GET_DEV_INFO2");
    EXPECT_EQ(command_name(0xdeadbeef), "a control command");
}

TEST(diagnosis, what_the_driver_answers_has_a_cause_and_a_remedy) {
    for (const auto& [op, code] : {std::pair{ctrl::add_dev, EEXIST},
                                   {ctrl::add_dev, EACCES},
                                   {ctrl::add_dev, EPERM},
                                   {ctrl::add_dev, EINVAL},
                                   {ctrl::add_dev, ENOSPC},
                                   {ctrl::add_dev, ENOMEM},
                                   {ctrl::add_dev, ETIMEDOUT},
                                   {ctrl::set_params, EINVAL},
                                   {ctrl::set_params, EACCES},
                                   {ctrl::start_dev, EINVAL},
                                   {ctrl::start_dev, EEXIST},
                                   {ctrl::start_dev, EBUSY},
                                   {ctrl::start_dev, ETIMEDOUT},
                                   {ctrl::stop_dev, ETIMEDOUT},
                                   {ctrl::del_dev, ETIMEDOUT},
                                   {ctrl::get_features, EOPNOTSUPP},
                                   {ctrl::start_user_recovery, EINVAL},
                                   {ctrl::start_user_recovery, EBUSY},
                                   {ctrl::end_user_recovery, EINVAL},
                                   {ctrl::end_user_recovery, EBUSY},
                                   {ctrl::end_user_recovery, ETIMEDOUT},
                                   {ctrl::quiesce_dev, EOPNOTSUPP},
                                   {ctrl::quiesce_dev, ENODEV},
                                   {ctrl::update_size, EOPNOTSUPP},
                                   {ctrl::update_size, ENODEV},
                                   {ctrl::try_stop_dev, EOPNOTSUPP},
                                   {ctrl::try_stop_dev, ENODEV},
                                   {ctrl::reg_buf, EOPNOTSUPP},
                                   {ctrl::reg_buf, EEXIST},
                                   {ctrl::reg_buf, ENOMEM},
                                   {ctrl::unreg_buf, ENOENT},
                                   {ctrl::get_features, EINVAL}}) {
        const ublk::detail::diagnosis words = diagnose(op, code);
        EXPECT_FALSE(words.cause.empty()) << command_name(op) << ' ' << code;
        EXPECT_FALSE(words.remedy.empty()) << command_name(op) << ' ' << code;
    }
}

TEST(diagnosis, every_command_knows_what_any_command_may_answer) {
    for (const std::uint32_t op : commands) {
        for (const int code : {ENODEV, EPERM, EOPNOTSUPP, ETIMEDOUT}) {
            EXPECT_FALSE(diagnose(op, code).cause.empty()) << command_name(op) << ' ' << code;
            EXPECT_FALSE(diagnose(op, code).remedy.empty()) << command_name(op) << ' ' << code;
        }
    }
}

TEST(diagnosis, the_words_of_a_command_go_before_those_of_any) {
    EXPECT_NE(diagnose(ctrl::add_dev, EPERM).cause, diagnose(ctrl::del_dev, EPERM).cause);
    EXPECT_NE(diagnose(ctrl::stop_dev, ETIMEDOUT).cause,
              diagnose(ctrl::get_params, ETIMEDOUT).cause);
    EXPECT_NE(diagnose(ctrl::get_features, EOPNOTSUPP).remedy,
              diagnose(ctrl::get_params, EOPNOTSUPP).remedy);
}

// They end up as "Likely cause: {}." and "Remedy: {}.".
TEST(diagnosis, sentences_leave_the_full_stop_to_the_error) {
    for (const std::uint32_t op : commands) {
        for (int code = 1; code < 134; ++code) {
            const ublk::detail::diagnosis words = diagnose(op, code);
            EXPECT_EQ(words.cause.empty(), words.remedy.empty());
            EXPECT_FALSE(words.cause.ends_with('.')) << words.cause;
            EXPECT_FALSE(words.remedy.ends_with('.')) << words.remedy;
        }
    }
}

TEST(diagnosis, what_is_not_known_stays_unsaid) {
    EXPECT_TRUE(diagnose(ctrl::get_params, EXDEV).cause.empty());
    EXPECT_TRUE(diagnose(ctrl::get_params, 0).cause.empty());
}

}  // namespace
}  // namespace diagnosis_test
