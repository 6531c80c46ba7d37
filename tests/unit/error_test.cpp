// SPDX-License-Identifier: MIT
#include <ublk/error.hpp>
#include <ublk/result.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <climits>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>

namespace error_test {
namespace {

using ublk::result;

// Results are answers of the hot loop and of constant expressions.
static_assert(ublk::ok.ok() && ublk::ok.error() == 0);
static_assert(result{} == ublk::ok);
static_assert(result::failure(EIO) == result::failure(-EIO));
static_assert(std::is_trivially_copyable_v<result> && sizeof(result) == sizeof(int));

// What is in flight as an exception is copied without the chance to fail.
static_assert(std::is_nothrow_copy_constructible_v<ublk::error>);
static_assert(std::is_nothrow_copy_assignable_v<ublk::error>);
static_assert(std::is_base_of_v<std::system_error, ublk::error>);

TEST(result, a_condition_becomes_its_errno) {
    const result full = std::errc::no_space_on_device;
    EXPECT_FALSE(full.ok());
    EXPECT_EQ(full.error(), ENOSPC);
    EXPECT_EQ(result{std::errc::operation_not_supported}.error(), EOPNOTSUPP);
}

TEST(result, an_errno_is_taken_with_either_sign) {
    for (int code = 1; code <= 4095; ++code) {
        EXPECT_EQ(result::failure(code), result::failure(-code));
        EXPECT_FALSE(result::failure(code).ok());
    }
}

TEST(result, an_errno_that_a_client_may_see_is_kept) {
    for (const int code : {EIO, ENOSPC, ENOMEM, ENODEV, ETIMEDOUT, EOPNOTSUPP, EILSEQ, ENODATA,
                           EBUSY, EINVAL, EPERM, 1, 4095}) {
        EXPECT_EQ(result::failure(code).error(), code);
    }
}

TEST(result, an_errno_that_a_client_would_retry_or_misread_becomes_eio) {
    for (const int code : {EAGAIN, EWOULDBLOCK, EINTR, EREMCHG}) {
        EXPECT_EQ(result::failure(code).error(), EIO) << code;
        EXPECT_EQ(result::failure(-code).error(), EIO) << code;
    }
    EXPECT_EQ(result{std::errc::interrupted}.error(), EIO);
    EXPECT_EQ(result{std::errc::resource_unavailable_try_again}.error(), EIO);
}

TEST(result, a_number_that_is_no_errno_becomes_eio) {
    for (const int code : {0, 4096, -4096, 1 << 20, INT_MAX, -INT_MAX, INT_MIN}) {
        EXPECT_EQ(result::failure(code).error(), EIO) << code;
    }
    EXPECT_EQ(result{std::errc{}}.error(), EIO);
}

TEST(result, errno_is_read_from_the_thread) {
    errno = ENOSPC;
    EXPECT_EQ(result::from_errno().error(), ENOSPC);
    errno = EINTR;
    EXPECT_EQ(result::from_errno().error(), EIO);
    errno = 0;
    EXPECT_EQ(result::from_errno().error(), EIO);
}

TEST(error, the_text_names_command_device_errno_cause_and_remedy) {
    const ublk::error e{-EEXIST, "ADD_DEV", 7, "it is there already", "choose another id"};
    EXPECT_STREQ(e.what(), "ublk: ADD_DEV for device 7 failed: File exists (errno 17). "
                           "Likely cause: it is there already. Remedy: choose another id.");
    EXPECT_EQ(e.command(), "ADD_DEV");
    EXPECT_EQ(e.device(), 7u);
    EXPECT_EQ(e.errno_value(), EEXIST);
    EXPECT_EQ(e.cause(), "it is there already");
    EXPECT_EQ(e.remedy(), "choose another id");
    EXPECT_EQ(e.code(), std::errc::file_exists);
}

TEST(error, what_is_not_known_is_not_named) {
    const ublk::error e{ENOMEM, "mmap", std::nullopt, "", ""};
    EXPECT_STREQ(e.what(), "ublk: mmap failed: Cannot allocate memory (errno 12).");
    EXPECT_FALSE(e.device());
    EXPECT_EQ(e.cause(), "");
    EXPECT_EQ(e.remedy(), "");
}

TEST(error, a_copy_says_the_same) {
    std::optional<ublk::error> first{ublk::error{EIO, "STOP_DEV", 0, "cause", "remedy"}};
    const ublk::error copy = *first;
    const std::string text = first->what();
    first.reset();
    EXPECT_EQ(copy.what(), text);
    EXPECT_EQ(copy.command(), "STOP_DEV");
    EXPECT_EQ(copy.device(), 0u);
}

TEST(error, fail_throws_what_it_is_told) {
    try {
        ublk::fail(-ENODEV, "GET_DEV_INFO", 3, "cause", "remedy");
        FAIL();
    } catch (const std::system_error& e) {
        EXPECT_EQ(e.code().value(), ENODEV);
        EXPECT_NE(std::string{e.what()}.find("GET_DEV_INFO for device 3"), std::string::npos);
    }
}

}  // namespace
}  // namespace error_test
