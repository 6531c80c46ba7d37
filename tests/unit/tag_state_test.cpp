// SPDX-License-Identifier: MIT
#include <ublk/data/tag_state.hpp>

#include <gtest/gtest.h>

#include <array>

namespace tag_state_test {
namespace {

using ublk::detail::tag_state;
using owner = ublk::detail::tag_state::owner;

// A tag_state that has got as far as that owner.
tag_state in(owner wanted) {
    tag_state s;
    if (wanted != owner::nobody) {
        s.to_driver();
    }
    if (wanted == owner::server) {
        s.to_server();
    }
    if (wanted == owner::gone) {
        s.abort();
    }
    return s;
}

TEST(tag_state, a_new_one_belongs_to_nobody) {
    EXPECT_EQ(tag_state{}.owned_by(), owner::nobody);
}

TEST(tag_state, a_request_goes_round_as_often_as_it_likes) {
    tag_state s;
    s.to_driver();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(s.owned_by(), owner::kernel);
        s.to_server();
        EXPECT_EQ(s.owned_by(), owner::server);
        s.to_driver();
    }
    s.abort();
    EXPECT_EQ(s.owned_by(), owner::gone);
}

TEST(tag_state, offering_what_the_kernel_holds_or_took_for_good_asserts) {
    for (const owner from : {owner::kernel, owner::gone}) {
        EXPECT_DEATH(in(from).to_driver(), "only a tag that the server holds");
    }
}

TEST(tag_state, taking_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).to_server(), "the kernel only sends requests on tags that it holds");
    }
}

TEST(tag_state, a_request_that_is_answered_at_once_leaves_it_with_the_kernel) {
    tag_state s = in(owner::kernel);
    s.to_server_and_back();
    EXPECT_EQ(s.owned_by(), owner::kernel);
}

TEST(tag_state, passing_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).to_server_and_back(),
                     "the kernel only sends requests on tags that it holds");
    }
}

TEST(tag_state, losing_what_the_kernel_does_not_hold_asserts) {
    for (const owner from : {owner::nobody, owner::server, owner::gone}) {
        EXPECT_DEATH(in(from).abort(), "the kernel only aborts tags that it holds");
    }
}

}  // namespace
}  // namespace tag_state_test
